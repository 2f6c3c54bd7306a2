//! Lines of bounded length from a stream that may be hostile.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The next line without its end, or `None` at the end of the stream.
///
/// # Errors
/// When a line is longer than `limit` bytes, or reading fails.
pub(crate) async fn next(
    reader: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let end = chunk.iter().position(|b| *b == b'\n');
        let used = end.map_or(chunk.len(), |at| at + 1);
        let text = &chunk[..end.unwrap_or(chunk.len())];
        if line.len() + text.len() > limit {
            return Err(io::Error::other(format!(
                "a line is longer than {limit} bytes"
            )));
        }
        line.extend_from_slice(text);
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::BufReader;

    #[tokio::test]
    async fn lines_come_one_by_one_and_long_ones_are_refused() {
        let mut reader = BufReader::with_capacity(3, &b"one\n\ntwo"[..]);
        assert_eq!(next(&mut reader, 9).await.unwrap().unwrap(), b"one");
        assert_eq!(next(&mut reader, 9).await.unwrap().unwrap(), b"");
        assert_eq!(next(&mut reader, 9).await.unwrap().unwrap(), b"two");
        assert!(next(&mut reader, 9).await.unwrap().is_none());
        let mut reader = BufReader::new(&b"0123456789\n"[..]);
        assert!(next(&mut reader, 9).await.is_err());
    }
}
