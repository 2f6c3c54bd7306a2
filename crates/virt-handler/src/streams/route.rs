//! What a request asks for.

use api::launcher::Op;
use api::names::{SERIAL_SOCKET, VNC_SOCKET};
use http::{Method, StatusCode, Uri};

use super::Refusal;

/// The VMI a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Namespace.
    pub(super) namespace: String,
    /// Name.
    pub(super) name: String,
}

/// A stream to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// The first serial port.
    Console,
    /// The display.
    Vnc {
        /// Rather be refused than replace who is there.
        preserve: bool,
    },
}

impl Stream {
    /// File name of the launcher's socket.
    pub(super) fn socket(self) -> &'static str {
        match self {
            Self::Console => SERIAL_SOCKET,
            Self::Vnc { .. } => VNC_SOCKET,
        }
    }

    /// Gives way to who is there.
    pub(super) fn yields(self) -> bool {
        matches!(self, Self::Vnc { preserve: true })
    }
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Route {
    /// Open a stream.
    Stream(Target, Stream),
    /// Ask the launcher.
    Command(Target, Op),
}

impl Route {
    pub(super) fn of(method: &Method, uri: &Uri) -> Result<Self, Refusal> {
        let parts: Vec<&str> = uri.path().split('/').collect();
        let [
            "",
            "v1",
            "namespaces",
            namespace,
            "virtualmachineinstances",
            name,
            verb,
        ] = parts.as_slice()
        else {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                format!("there is nothing at {}", uri.path()),
            ));
        };
        let target = Target {
            namespace: (*namespace).to_owned(),
            name: (*name).to_owned(),
        };
        let command = |op| Ok((Method::PUT, Self::Command(target.clone(), op)));
        let (expected, route) = match *verb {
            "console" => Ok((Method::GET, Self::Stream(target, Stream::Console))),
            "vnc" => {
                let preserve = preserves(uri.query().unwrap_or_default());
                Ok((Method::GET, Self::Stream(target, Stream::Vnc { preserve })))
            }
            "pause" => command(Op::Pause),
            "unpause" => command(Op::Unpause),
            "softreboot" => command(Op::SoftReboot),
            "reset" => command(Op::Reset),
            other => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                format!("there is no {other} of a VMI here"),
            )),
        }?;
        if *method == expected {
            Ok(route)
        } else {
            let message = format!("expected {expected}, found {method}");
            Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message))
        }
    }
}

/// `preserveSession` is there and not false.
fn preserves(query: &str) -> bool {
    query.split('&').any(|pair| match pair.split_once('=') {
        Some((key, value)) => key == "preserveSession" && value != "false",
        None => pair == "preserveSession",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_read_and_others_refused() {
        let route = |method: Method, path: &str| Route::of(&method, &path.parse().unwrap());
        let base = "/v1/namespaces/n/virtualmachineinstances/a";
        let Route::Stream(target, stream) = route(Method::GET, &format!("{base}/console")).unwrap()
        else {
            unreachable!()
        };
        assert_eq!(
            (target.namespace.as_str(), target.name.as_str()),
            ("n", "a")
        );
        assert_eq!(stream, Stream::Console);
        for (query, preserve) in [
            ("", false),
            ("?preserveSession=true", true),
            ("?preserveSession=false", false),
        ] {
            let Route::Stream(_, stream) =
                route(Method::GET, &format!("{base}/vnc{query}")).unwrap()
            else {
                unreachable!()
            };
            assert_eq!(stream, Stream::Vnc { preserve });
        }
        assert!(matches!(
            route(Method::PUT, &format!("{base}/pause")),
            Ok(Route::Command(_, Op::Pause))
        ));
        let status = |method, path: &str| route(method, path).unwrap_err().status;
        assert_eq!(
            status(Method::GET, &format!("{base}/pause")),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            status(Method::GET, &format!("{base}/other")),
            StatusCode::NOT_FOUND
        );
        assert_eq!(status(Method::GET, "/v1/namespaces"), StatusCode::NOT_FOUND);
    }
}
