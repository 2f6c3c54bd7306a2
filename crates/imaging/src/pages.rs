//! Memory that begins at a page.

/// Bytes of a page; where and how long writes past the page cache may be are multiples of it.
pub(crate) const PAGE: usize = 4096;

/// A buffer that grows, and that the system can write from past the page cache.
#[derive(Debug, Default)]
pub(crate) struct Pages(Vec<u8>);

impl Pages {
    /// Its first `length` bytes, with whatever they hold.
    pub(crate) fn first(&mut self, length: usize) -> &mut [u8] {
        if self.0.len() < length + PAGE {
            self.0.resize(length + PAGE, 0);
        }
        let from = self.0.as_ptr().align_offset(PAGE);
        &mut self.0[from..from + length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_page_however_long_it_is() {
        let mut pages = Pages::default();
        for length in [1, 5000, 3 << 20, 10] {
            let bytes = pages.first(length);
            assert_eq!(bytes.len(), length);
            assert_eq!(bytes.as_ptr().align_offset(PAGE), 0);
        }
    }
}
