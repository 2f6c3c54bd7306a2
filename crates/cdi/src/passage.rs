//! The body of an upload on its way: passed on as it comes, and heard out when nobody
//! wants it any more.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// A client that sends nothing for so long is gone: the claim's server must not stay
/// busy with it, for it takes one upload at a time.
const SILENCE: Duration = Duration::from_secs(120);
/// How long, and how many bytes, the rest of an upload is read that the server has
/// refused: a client that still sends would else see a broken connection, not the reason.
const LINGER: (Duration, u64) = (Duration::from_secs(10), 64 << 20);

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The connection to the client failed.
    #[error("the client's connection broke: {0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client is silent.
    #[error("the client sent nothing for {} s", SILENCE.as_secs())]
    Silent,
}

/// A client's body while it is passed on.
pub(crate) struct Passage<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    body: Option<B>,
    silence: Option<Pin<Box<Sleep>>>,
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Passage<B> {
    pub(crate) fn new(body: B) -> Self {
        Self {
            body: Some(body),
            silence: None,
        }
    }
}

impl<B> Body for Passage<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.silence = None;
                Poll::Ready(match frame {
                    Some(Ok(frame)) => Some(Ok(frame)),
                    Some(Err(error)) => {
                        self.body = None;
                        Some(Err(Broken::Client(error.into())))
                    }
                    None => {
                        self.body = None;
                        None
                    }
                })
            }
            Poll::Pending => {
                let silence = self
                    .silence
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE)));
                match silence.as_mut().poll(context) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        self.body = None;
                        Poll::Ready(Some(Err(Broken::Silent)))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Drop for Passage<B> {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let until = Instant::now() + LINGER.0;
            let mut left = LINGER.1;
            while let Ok(Some(Ok(frame))) = tokio::time::timeout_at(until, body.frame()).await {
                left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
                if left == 0 {
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::SinkExt;
    use futures::channel::mpsc;
    use http_body_util::StreamBody;

    type Frames = Result<Frame<Bytes>, std::io::Error>;
    type Fed = Passage<StreamBody<mpsc::Receiver<Frames>>>;

    fn passage() -> (mpsc::Sender<Frames>, Fed) {
        let (sender, receiver) = mpsc::channel(0);
        (sender, Passage::new(StreamBody::new(receiver)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_given_up_and_a_slow_one_is_not() {
        let (mut sender, mut passage) = passage();
        tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(SILENCE - Duration::from_secs(1)).await;
                let frame = Frame::data(Bytes::from_static(b"x"));
                sender.send(Ok(frame)).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        for _ in 0..3 {
            assert!(passage.frame().await.unwrap().is_ok());
        }
        assert!(matches!(passage.frame().await, Some(Err(Broken::Silent))));
        assert!(passage.frame().await.is_none());
    }

    #[tokio::test]
    async fn the_rest_of_a_refused_upload_is_read() {
        let (mut sender, passage) = passage();
        drop(passage);
        for _ in 0..10 {
            sender
                .send(Ok(Frame::data(Bytes::from_static(b"x"))))
                .await
                .unwrap();
        }
        drop(sender);
    }
}
