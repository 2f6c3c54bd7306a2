//! A file behind HTTP: read in ranges where the server gives them, else from its begin.
//!
//! Every answer is held against the first: when entity tag, date or length differ, the file
//! was exchanged while it was read, and nothing of it is believed.

use std::io::{self, Read};

use imaging::{Error, Result, Source};
use ureq::http::Response;
use ureq::{Body, BodyReader};

use super::request::{CHANGED, Client, TRIES, again, bare, failed, passes, unexpected};

/// What the first answer said of the file.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    client: Client,
    url: String,
    length: Option<u64>,
    ranges: bool,
    tag: Option<String>,
    date: Option<String>,
}

fn header(response: &Response<Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// Begin and whole length of `bytes 0-511/600`.
fn content_range(response: &Response<Body>) -> Option<(u64, u64)> {
    let value = header(response, "content-range")?;
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let begin = range.split('-').next()?.parse().ok()?;
    Some((begin, whole.parse().ok()?))
}

impl Remote {
    /// Asks for the first bytes.
    pub(super) fn open(client: Client, url: &str) -> Result<Self> {
        let mut number = 0;
        loop {
            number += 1;
            let error = match client.get(url, &[("range", "bytes=0-511")]) {
                Ok(mut response) => match response.status().as_u16() {
                    200 | 206 => return Self::of(client, url, &mut response),
                    416 => {
                        return Err(Error::Source(format!(
                            "GET {}: expected an image, found an empty file",
                            bare(url)
                        )));
                    }
                    status => {
                        let error = unexpected(url, &mut response);
                        if !passes(status) {
                            return Err(error);
                        }
                        error
                    }
                },
                Err(error) => failed(url, &error),
            };
            if number >= TRIES || !again(&error) {
                return Err(error);
            }
            client.pause(number, &error);
        }
    }

    fn of(client: Client, url: &str, response: &mut Response<Body>) -> Result<Self> {
        client.works();
        let ranges = response.status() == 206;
        let length = if ranges {
            let Some((0, whole)) = content_range(response) else {
                return Err(Error::Source(format!(
                    "GET {}: expected a Content-Range from byte 0 on with the whole length",
                    bare(url)
                )));
            };
            // Read to its end, so that the connection serves the next request too.
            let _ = response.body_mut().read_to_vec();
            Some(whole)
        } else {
            response.body().content_length()
        };
        Ok(Self {
            tag: header(response, "etag"),
            date: header(response, "last-modified"),
            client,
            url: url.to_owned(),
            length,
            ranges,
        })
    }

    /// Whether any part of it can be asked for.
    pub(super) fn has_ranges(&self) -> bool {
        self.ranges
    }

    pub(super) fn known_length(&self) -> Option<u64> {
        self.length
    }

    /// The file from its begin to its end.
    pub(super) fn stream(&self) -> Stream {
        Stream {
            remote: self.clone(),
            body: None,
            at: 0,
            failed: 0,
        }
    }

    fn changed(&self, what: &str, before: &str, now: &str) -> Error {
        Error::SourceForNow(format!(
            "{}{CHANGED}: its {what} was {before}, now it is {now}",
            bare(&self.url)
        ))
    }

    fn same(&self, response: &Response<Body>) -> Result<()> {
        for (name, before) in [("etag", &self.tag), ("last-modified", &self.date)] {
            let now = header(response, name);
            if let (Some(before), Some(now)) = (before, &now)
                && before != now
            {
                return Err(self.changed(name, before, now));
            }
        }
        let whole = if response.status() == 206 {
            content_range(response).map(|(_, whole)| whole)
        } else {
            response.body().content_length()
        };
        match (self.length, whole) {
            (Some(before), Some(now)) if before != now => {
                Err(self.changed("length", &before.to_string(), &now.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// The bytes from `from` on, up to and without `until`.
    fn get(&self, from: u64, until: Option<u64>) -> Result<(Response<Body>, bool)> {
        let last = until.map(|u| (u - 1).to_string()).unwrap_or_default();
        let range = format!("bytes={from}-{last}");
        // A weak tag cannot promise that bytes are the same.
        let strong = self.tag.as_deref().filter(|tag| !tag.starts_with("W/"));
        let mut more = Vec::new();
        if self.ranges {
            more.push(("range", range.as_str()));
            if let Some(mark) = strong.or(self.date.as_deref()) {
                more.push(("if-range", mark));
            }
        }
        let mut response = self
            .client
            .get(&self.url, &more)
            .map_err(|error| failed(&self.url, &error))?;
        match response.status().as_u16() {
            206 => {
                self.same(&response)?;
                match content_range(&response) {
                    Some((begin, _)) if begin == from => {
                        self.client.works();
                        Ok((response, true))
                    }
                    _ => Err(Error::SourceForNow(format!(
                        "GET {}: expected the range from {from} on, found {:?}",
                        bare(&self.url),
                        header(&response, "content-range")
                    ))),
                }
            }
            200 => {
                self.same(&response)?;
                if self.ranges {
                    return Err(self.changed("validator", "good", "refused (200 for a range)"));
                }
                self.client.works();
                Ok((response, false))
            }
            412 => Err(self.changed("validator", "good", "refused (412)")),
            status => {
                let error = unexpected(&self.url, &mut response);
                if passes(status) {
                    return Err(error);
                }
                Err(Error::Source(error.to_string()))
            }
        }
    }
}

impl Source for Remote {
    fn length(&self) -> u64 {
        self.length.unwrap_or(0)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let end = offset + buffer.len() as u64;
        let mut got = 0;
        let mut failed = 0;
        while got < buffer.len() {
            let before = got;
            let error = match self.get(offset + got as u64, Some(end)) {
                Ok((response, _)) => {
                    let mut body = response.into_body().into_reader();
                    match fill(&mut body, buffer, &mut got) {
                        // Nothing is left; asking once more lets the connection be used again.
                        Ok(()) if got == buffer.len() => {
                            let _ = body.read(&mut [0]);
                            return Ok(());
                        }
                        Ok(()) => Error::SourceForNow(format!(
                            "GET {}: the connection ended after {got} of {} bytes",
                            bare(&self.url),
                            buffer.len()
                        )),
                        Err(error) => {
                            Error::SourceForNow(format!("GET {}: {error}", bare(&self.url)))
                        }
                    }
                }
                Err(error) => error,
            };
            failed = if got > before { 1 } else { failed + 1 };
            if failed >= TRIES || !again(&error) {
                return Err(error);
            }
            self.client.pause(failed, &error);
        }
        Ok(())
    }
}

fn fill(body: &mut BodyReader<'_>, buffer: &mut [u8], got: &mut usize) -> io::Result<()> {
    while *got < buffer.len() {
        match body.read(&mut buffer[*got..]) {
            Ok(0) => return Ok(()),
            Ok(n) => *got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A file that is read forward. What breaks is taken up where it broke: by a range, or by
/// reading it again up to there.
pub(super) struct Stream {
    remote: Remote,
    body: Option<BodyReader<'static>>,
    at: u64,
    failed: u32,
}

impl Stream {
    fn open(&mut self) -> Result<BodyReader<'static>> {
        let (response, partial) = self.remote.get(self.at, None)?;
        let mut body = response.into_body().into_reader();
        if !partial && self.at > 0 {
            let again = io::copy(&mut (&mut body).take(self.at), &mut io::sink());
            match again {
                Ok(n) if n == self.at => {}
                _ => {
                    return Err(Error::SourceForNow(format!(
                        "GET {}: it broke again before byte {}",
                        bare(&self.remote.url),
                        self.at
                    )));
                }
            }
        }
        Ok(body)
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.open()?,
        };
        let broke = |error: &dyn std::fmt::Display| {
            Error::SourceForNow(format!("GET {}: {error}", bare(&self.remote.url)))
        };
        let n = body.read(buffer).map_err(|error| broke(&error))?;
        if n == 0 && self.remote.length.is_some_and(|length| self.at < length) {
            return Err(broke(&format!(
                "the connection ended after {} bytes",
                self.at
            )));
        }
        self.body = Some(body);
        self.at += n as u64;
        Ok(n)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.remote.length == Some(self.at) {
            return Ok(0);
        }
        loop {
            match self.read_once(buffer) {
                Ok(n) => {
                    self.failed = 0;
                    return Ok(n);
                }
                Err(error) => {
                    self.failed += 1;
                    if self.failed >= TRIES || !again(&error) {
                        return Err(error.into());
                    }
                    self.remote.client.pause(self.failed, &error);
                }
            }
        }
    }
}
