//! Requests and their answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use imaging::{Error, Result};
use kube_kit::serve::Peer;
use tokio::sync::watch;

use super::super::Claim;
use super::super::end::Done;
use super::body;
use super::session::{Content, Pipe, Session};
use crate::passage::Passage;

/// Bytes that are given to the thread at once.
const PIECE: usize = 256 << 10;
/// How much of a body is still read after the image was refused, so that a client that sends
/// before it listens hears why. Then the connection is closed.
const HEAR_OUT: Duration = Duration::from_secs(3);
/// How long an asynchronous upload is looked at before it is called good: an image that is none
/// is found out in this time, and its client is told.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// Where a clone is sent to. Ours: upstream sends it to the path of uploads.
pub(in super::super) const CLONE_PATH: &str = "/v1beta1/clone";
/// How many bytes of the image arrived, as resumable-upload protocols name it.
const OFFSET: &str = "upload-offset";
/// How many there will be.
const LENGTH: &str = "upload-length";

type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, text: &str) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    response
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    wait: bool,
    form: bool,
    archive: bool,
}

/// The route of `path`; a server that takes a clone has one only.
fn route(path: &str, clone: bool) -> Option<Route> {
    if clone {
        return (path == CLONE_PATH).then_some(Route {
            wait: true,
            form: false,
            archive: false,
        });
    }

    let rest = path
        .strip_prefix("/v1beta1/upload")
        .or_else(|| path.strip_prefix("/v1alpha1/upload"))?;
    let (wait, form, archive) = match rest {
        "" => (true, false, false),
        "-async" => (false, false, false),
        "-form" => (true, true, false),
        "-form-async" => (false, true, false),
        "-archive" => (true, false, true),
        _ => return None,
    };
    Some(Route {
        wait,
        form,
        archive,
    })
}

/// Where an upload is.
enum State {
    /// No request has it.
    Idle(Option<Session>),
    /// A request sends its bytes.
    Receiving,
    /// All bytes are there.
    Processing,
    /// The claim is filled.
    Done,
}

/// The server's one upload.
pub(super) struct Server {
    claim: Claim,
    client_name: String,
    clone: bool,
    state: Mutex<State>,
    ended: watch::Sender<Option<Arc<Result<Done>>>>,
}

impl Server {
    pub(super) fn new(claim: Claim, client_name: String, clone: bool) -> Self {
        Self {
            claim,
            client_name,
            clone,
            state: Mutex::new(State::Idle(None)),
            ended: watch::channel(None).0,
        }
    }

    /// Resolves when the claim is filled, or never will be.
    pub(super) async fn ended(&self) -> Result<Done> {
        let mut ended = self.ended.subscribe();
        let outcome = match ended.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        outcome.map_or(Err(Error::Cancelled), |outcome| copy(&outcome))
    }

    /// Stops what is under way.
    pub(super) fn cancel(&self) {
        if let State::Idle(Some(session)) = &*self.state() {
            session.cancel();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if path == "/healthz" {
            return answer(StatusCode::OK, "OK");
        }
        let Some(route) = route(path, self.clone) else {
            return answer(StatusCode::NOT_FOUND, "");
        };
        let known = request
            .extensions()
            .get::<Peer>()
            .is_some_and(|peer| peer.common_name.as_ref() == Some(&self.client_name));
        match *request.method() {
            Method::HEAD if !route.wait => self.head(known),
            Method::POST | Method::PATCH if !known => answer(
                StatusCode::UNAUTHORIZED,
                if self.clone {
                    "expected the certificate of the clone's source pod"
                } else {
                    "expected the upload proxy's certificate"
                },
            ),
            Method::POST | Method::PATCH => self.upload(request, route).await,
            _ => answer(StatusCode::NOT_FOUND, ""),
        }
    }

    /// That asynchronous uploads are known, and how far one is.
    fn head(&self, known: bool) -> Answer {
        let mut response = answer(StatusCode::OK, "");
        if known && let State::Idle(session) = &*self.state() {
            let received = session.as_ref().map_or(0, |session| session.received);
            response.headers_mut().insert(OFFSET, received.into());
            if let Some(total) = session.as_ref().and_then(|session| session.total) {
                response.headers_mut().insert(LENGTH, total.into());
            }
        }
        response
    }

    async fn upload(self: Arc<Self>, request: Request<Incoming>, route: Route) -> Answer {
        let place = match Place::of(request.method(), request.headers(), route.form) {
            Ok(place) => place,
            Err(reason) => {
                drop(Passage::new(request.into_body()));
                return answer(StatusCode::BAD_REQUEST, &reason);
            }
        };
        let mut receiving = match self.begin(&place, route).await {
            Ok(receiving) => receiving,
            Err(answer) => {
                // Closed with bytes unread, the connection would lose the answer.
                drop(Passage::new(request.into_body()));
                return answer;
            }
        };
        let stream = if route.form {
            match body::form(request).await {
                Ok(stream) => stream,
                Err(reason) => return answer(StatusCode::BAD_REQUEST, &reason),
            }
        } else {
            body::plain(request)
        };
        let Some(pipe) = receiving.session.as_ref().map(Session::pipe) else {
            return answer(StatusCode::INTERNAL_SERVER_ERROR, "no upload to go on with");
        };
        let mut stream = stream;
        if let Err(reason) = receive(&mut stream, &pipe, &mut receiving).await {
            let received = receiving.received();
            tracing::warn!(received, "the upload broke: {reason}");
            let text = format!("the upload broke after {received} bytes: {reason}");
            return answer(StatusCode::INTERNAL_SERVER_ERROR, &text);
        }
        let failed = receiving.refused;
        let received = receiving.received();
        if !failed && place.total.is_some_and(|total| received < total) {
            // A part of it; the next request has more.
            let mut response = answer(StatusCode::ACCEPTED, "");
            response.headers_mut().insert(OFFSET, received.into());
            return response;
        }
        if failed {
            let hear_out = async { while let Some(Ok(_)) = stream.next().await {} };
            // Whoever still sends after that is not listening.
            let _ = tokio::time::timeout(HEAR_OUT, hear_out).await;
        } else {
            pipe.end().await;
        }
        receiving.processing();
        self.finish(pipe, route).await
    }

    /// Takes the one place there is.
    async fn begin(
        self: &Arc<Self>,
        place: &Place,
        route: Route,
    ) -> std::result::Result<Receiving, Answer> {
        let session = {
            let mut state = self.state();
            match &mut *state {
                State::Receiving | State::Processing => {
                    return Err(answer(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "another upload is under way",
                    ));
                }
                State::Done => {
                    return Err(answer(
                        StatusCode::CONFLICT,
                        "the upload was finished before",
                    ));
                }
                State::Idle(session) => {
                    let received = session.as_ref().map_or(0, |session| session.received);
                    if place.begin != 0 && place.begin != received {
                        let text = format!(
                            "expected bytes from {received} on, found them from {} on",
                            place.begin
                        );
                        let mut response = answer(StatusCode::RANGE_NOT_SATISFIABLE, &text);
                        response.headers_mut().insert(OFFSET, received.into());
                        return Err(response);
                    }
                    let session = session.take();
                    *state = State::Receiving;
                    session
                }
            }
        };
        let mut receiving = Receiving {
            server: Arc::clone(self),
            session,
            refused: false,
            over: false,
        };
        if place.begin > 0 {
            return Ok(receiving);
        }
        if let Some(old) = receiving.session.take() {
            old.abandon().await;
        }
        let content = match (self.clone, route.archive || self.claim.archive) {
            (clone, true) => Content::Archive { clone },
            (true, false) => Content::Clone,
            (false, false) => Content::Image,
        };
        match Session::start(&self.claim, content, place.total) {
            Ok(session) => {
                receiving.session = Some(session);
                Ok(receiving)
            }
            Err(error) => Err(answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("cannot start a thread: {error}"),
            )),
        }
    }

    /// Waits for the thread; goes on when the client does not wait.
    async fn finish(self: Arc<Self>, mut pipe: Pipe, route: Route) -> Answer {
        let server = Arc::clone(&self);
        let mut waiting = tokio::spawn(async move {
            let outcome = pipe.outcome().await;
            let permanent = match &*outcome {
                Ok(_) => true,
                Err(error) => error.is_permanent(),
            };
            *server.state() = if outcome.is_ok() {
                State::Done
            } else {
                State::Idle(None)
            };
            // The next request may mend what is not permanent.
            if permanent || !route.wait {
                server.ended.send_replace(Some(Arc::clone(&outcome)));
            }
            outcome
        });
        let outcome = if route.wait {
            waiting.await
        } else {
            match tokio::time::timeout(FIRST_LOOK, &mut waiting).await {
                Ok(outcome) => outcome,
                // It goes on; how it ends stands on the claim.
                Err(_) => return answer(StatusCode::OK, ""),
            }
        };
        match outcome.as_deref() {
            Ok(Ok(_)) => answer(StatusCode::OK, ""),
            Ok(Err(error)) => refusal(error),
            Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, "the writing task failed"),
        }
    }
}

/// Gives the body to the thread. An error is the connection's; that the thread wants no more is
/// noted.
async fn receive(
    stream: &mut body::Stream,
    pipe: &Pipe,
    receiving: &mut Receiving,
) -> std::result::Result<(), String> {
    let mut held = Vec::new();
    let mut bytes = 0;
    loop {
        let next = stream.next().await;
        let over = !matches!(next, Some(Ok(_)));
        let broke = match next {
            Some(Ok(more)) => {
                bytes += more.len();
                held.push(more);
                None
            }
            Some(Err(reason)) => Some(reason),
            None => None,
        };
        if bytes >= PIECE || (over && bytes > 0) {
            if !pipe.send(std::mem::take(&mut held)).await {
                receiving.refused = true;
                return Ok(());
            }
            receiving.arrived(bytes);
            bytes = 0;
        }
        match broke {
            Some(reason) => return Err(reason),
            None if over => return Ok(()),
            None => {}
        }
    }
}

/// The right to send, given back when the request ends in any way.
struct Receiving {
    server: Arc<Server>,
    session: Option<Session>,
    refused: bool,
    over: bool,
}

impl Receiving {
    fn received(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.received)
    }

    fn arrived(&mut self, bytes: usize) {
        if let Some(session) = &mut self.session {
            session.received += bytes as u64;
        }
    }

    /// All bytes are there, or none is wanted any more.
    fn processing(mut self) {
        *self.server.state() = State::Processing;
        self.over = true;
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.over {
            *self.server.state() = State::Idle(self.session.take());
        }
    }
}

/// Which bytes of the image a request has.
#[derive(Debug, PartialEq)]
struct Place {
    begin: u64,
    total: Option<u64>,
}

impl Place {
    fn of(method: &Method, headers: &HeaderMap, form: bool) -> std::result::Result<Self, String> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| -> std::result::Result<Option<u64>, String> {
            text(name)
                .map(|value| {
                    value
                        .parse()
                        .map_err(|_| format!("{name}: expected a number, found {value:?}"))
                })
                .transpose()
        };
        let length = number("content-length")?.filter(|_| !form);
        if let Some(range) = text("content-range") {
            let bad = || format!("content-range: expected bytes FIRST-LAST/TOTAL, found {range:?}");
            let (bytes, total) = range
                .strip_prefix("bytes ")
                .and_then(|rest| rest.split_once('/'))
                .ok_or_else(bad)?;
            let (first, _) = bytes.split_once('-').ok_or_else(bad)?;
            let total = match total {
                "*" => None,
                total => Some(total.parse().map_err(|_| bad())?),
            };
            let begin = first.parse().map_err(|_| bad())?;
            return Self { begin, total }.sound();
        }
        let begin = match number(OFFSET)? {
            Some(offset) => offset,
            None if method == Method::PATCH => {
                return Err(format!("expected {OFFSET} or content-range with PATCH"));
            }
            None => 0,
        };
        let total = match number(LENGTH)? {
            Some(total) => Some(total),
            // As much as there is: too much is refused as such.
            None => length.map(|length| begin.saturating_add(length)),
        };
        Self { begin, total }.sound()
    }

    fn sound(self) -> std::result::Result<Self, String> {
        let begin = self.begin;
        match self.total {
            Some(total) if total < begin || total == u64::MAX => Err(format!(
                "expected bytes of the image's {total}, found some from {begin} on"
            )),
            _ => Ok(self),
        }
    }
}

/// Upstream's status and text for what does not fit; the reason, which upstream keeps to
/// itself, for all else.
fn refusal(error: &Error) -> Answer {
    let (status, text) = match error {
        Error::TooLarge { .. } | Error::Full { .. } => (
            StatusCode::BAD_REQUEST,
            format!(
                "Saving stream failed: effective image size is larger than the reported available storage: {error}"
            ),
        ),
        Error::Malformed { .. } | Error::Refused { .. } => (
            StatusCode::BAD_REQUEST,
            format!("Saving stream failed: {error}"),
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("Saving stream failed: {error}"),
        ),
    };
    let mut response = answer(status, &text);
    response
        .headers_mut()
        .insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The outcome for its second reader. Errors are told by their text and whether they pass.
fn copy(outcome: &Result<Done>) -> Result<Done> {
    match outcome {
        Ok(done) => Ok(done.clone()),
        Err(error) if error.is_permanent() => Err(Error::Source(error.to_string())),
        Err(error) => Err(Error::SourceForNow(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn upstreams_paths_of_both_versions_are_known() {
        for version in ["v1beta1", "v1alpha1"] {
            for (path, want) in [
                ("upload", Some((true, false, false))),
                ("upload-async", Some((false, false, false))),
                ("upload-form", Some((true, true, false))),
                ("upload-form-async", Some((false, true, false))),
                ("upload-archive", Some((true, false, true))),
                ("uploads", None),
                ("", None),
            ] {
                let found = route(&format!("/{version}/{path}"), false);
                assert_eq!(found.map(|r| (r.wait, r.form, r.archive)), want, "{path}");
            }
        }
    }

    #[test]
    fn a_server_of_a_clone_takes_that_only() {
        assert!(route(CLONE_PATH, true).is_some() && route(CLONE_PATH, false).is_none());
        assert!(route("/v1beta1/upload", true).is_none());
    }

    #[test]
    fn a_request_says_where_its_bytes_belong() {
        let of = |method: Method, headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            Place::of(&method, &map, false)
                .ok()
                .map(|p| (p.begin, p.total))
        };
        type Case<'a> = (
            Method,
            &'a [(&'static str, &'a str)],
            Option<(u64, Option<u64>)>,
        );
        let cases: [Case<'_>; 9] = [
            (Method::POST, &[("content-length", "9")], Some((0, Some(9)))),
            (Method::POST, &[], Some((0, None))),
            (Method::PATCH, &[], None),
            (
                Method::PATCH,
                &[("upload-offset", "5"), ("content-length", "4")],
                Some((5, Some(9))),
            ),
            (
                Method::PATCH,
                &[("content-range", "bytes 5-8/20"), ("content-length", "4")],
                Some((5, Some(20))),
            ),
            (
                Method::POST,
                &[("content-range", "bytes 5-8/*")],
                Some((5, None)),
            ),
            (Method::POST, &[("content-range", "5")], None),
            (Method::POST, &[("content-range", "bytes 9-9/5")], None),
            (
                Method::PATCH,
                &[
                    ("upload-offset", "18446744073709551615"),
                    ("content-length", "9"),
                ],
                None,
            ),
        ];
        for (method, headers, want) in cases {
            assert_eq!(of(method, headers), want, "{headers:?}");
        }
    }
}
