//! console and vnc: the client's websocket and virt-handler's are joined byte
//! by byte; frames pass as they are.

use std::sync::Arc;

use decide::subresource::{self as decision, Refusal};
use http::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::answer::Answer;
use crate::app::{App, Call};
use crate::websocket::Handshake;

/// Which of an instance's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Console,
    Vnc,
}

/// Checks all that can be checked, opens virt-handler's stream, then answers
/// 101: whatever fails, fails as a Status before the upgrade.
pub(crate) async fn serve<B>(
    app: &Arc<App>,
    call: &Call<'_>,
    kind: Kind,
    mut request: Request<B>,
) -> Result<Answer, Refusal> {
    let target = &call.target;
    let vmi = app.instance(target).await?;
    let (word, query) = match kind {
        Kind::Console => {
            decision::console(&vmi)?;
            ("console", "")
        }
        Kind::Vnc => {
            decision::vnc(&vmi)?;
            (
                "vnc",
                if preserves_session(call.query) {
                    "?preserveSession=true"
                } else {
                    ""
                },
            )
        }
    };
    let node = decision::node(&vmi)?;
    let handshake = Handshake::read(request.headers())?;
    let path = format!(
        "/v1/namespaces/{}/virtualmachineinstances/{}/{word}{query}",
        target.namespace, target.name
    );
    let handler = app
        .handlers
        .open(node, &path)
        .await
        .map_err(|error| error.refusal())?;
    let session = match kind {
        Kind::Console => app.sessions.console(target.namespace, target.name),
        Kind::Vnc => app.sessions.vnc(target.namespace, target.name),
    };
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match client.await {
            Ok(client) => splice(TokioIo::new(client), TokioIo::new(handler)).await,
            Err(error) => tracing::debug!("the client did not stay for its stream: {error}"),
        }
        drop(session);
    });
    Ok(handshake.answer())
}

/// Joins two streams until either ends; then both are closed, as upstream does.
async fn splice(client: impl AsyncRead + AsyncWrite, handler: impl AsyncRead + AsyncWrite) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_handler, mut to_handler) = tokio::io::split(handler);
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_handler) => {}
        _ = tokio::io::copy(&mut from_handler, &mut to_client) => {}
    }
    // Errors here mean that the other side is gone already.
    let _ = tokio::join!(to_client.shutdown(), to_handler.shutdown());
}

/// `preserveSession=` in the spellings Go's `strconv.ParseBool` takes for true.
fn preserves_session(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|pair| {
        matches!(
            pair.strip_prefix("preserveSession="),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True")
        )
    })
}
