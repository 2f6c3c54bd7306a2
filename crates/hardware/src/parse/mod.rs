//! Pure parsers of kernel text and binary formats: bytes in, facts out.
