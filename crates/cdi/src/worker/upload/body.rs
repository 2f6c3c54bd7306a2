//! A request's bytes: its whole body, or the part `file` of a form.

use futures::TryStreamExt;
use futures::stream::BoxStream;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

/// Bytes, or why there are no more.
pub(super) type Stream = BoxStream<'static, Result<Bytes, String>>;

/// The whole body.
pub(super) fn plain(request: Request<Incoming>) -> Stream {
    let data = request.into_body().into_data_stream();
    Box::pin(data.map_err(|error| error.to_string()))
}

/// The part named `file` of a `multipart/form-data` body; other parts are skipped.
pub(super) async fn form(request: Request<Incoming>) -> Result<Stream, String> {
    let kind = request
        .headers()
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let boundary = multer::parse_boundary(kind)
        .map_err(|error| format!("expected multipart/form-data, found {kind:?}: {error}"))?;
    let mut parts = multer::Multipart::new(request.into_body().into_data_stream(), boundary);
    loop {
        match parts.next_field().await {
            Ok(Some(field)) if field.name() == Some("file") => {
                // The parts must live as long as the field that reads through them.
                let stream = futures::stream::unfold((field, parts), |(mut field, parts)| async {
                    match field.chunk().await {
                        Ok(Some(bytes)) => Some((Ok(bytes), (field, parts))),
                        Ok(None) => None,
                        Err(error) => Some((Err(error.to_string()), (field, parts))),
                    }
                });
                return Ok(Box::pin(stream));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Err("expected a part named file in the form, found none".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}
