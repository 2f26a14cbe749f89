//! The end of a chunked body, found strictly.
//!
//! Readers of chunks differ in what they forgive: no digits at all, white space around the size,
//! bare line feeds in an extension. Whoever forgives differently sees another end of the message.

/// Bytes of one size line or one trailer line, its end included.
const LINE_LIMIT: u32 = 256;

/// Bytes of all trailers.
const TRAILER_LIMIT: u32 = 4096;

/// Follows a chunked body through pieces of any size.
#[derive(Debug, Clone)]
pub struct ChunkScanner {
    state: State,
    /// Of the chunk: while its size is read, and then what is left of it.
    left: u64,
    /// Bytes of this line so far.
    line: u32,
    trailers: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    End,
}

/// How far a piece belongs to the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// Bytes of the piece that belong to it.
    pub used: usize,
    /// Whether they are its last.
    pub ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("the size of a chunk is not 1 to 15 hexadecimal digits")]
    Size,
    #[error("a line between chunks does not end in CR LF, or holds a control character")]
    Line,
    #[error("a chunk is not as long as its size says")]
    Length,
    #[error("a trailer is not `name: value`")]
    Trailer,
    #[error("a line between chunks, or the trailers, are too long")]
    TooLong,
}

impl ChunkError {
    /// The name of the rule, for logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Size => "chunk_size",
            Self::Line => "chunk_line_end",
            Self::Length => "chunk_length",
            Self::Trailer => "chunk_trailer",
            Self::TooLong => "chunk_too_long",
        }
    }
}

impl Default for ChunkScanner {
    fn default() -> Self {
        Self { state: State::Size, left: 0, line: 0, trailers: 0 }
    }
}

impl ChunkScanner {
    /// Reads on. After the end, and after an error, nothing more may be read.
    ///
    /// # Source
    /// RFC 9112 section 7.1, without the white space that it lets receivers forgive.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, ChunkError> {
        self.scan_data(bytes, |_| {})
    }

    /// The same, and hands out the data of the chunks.
    ///
    /// # Errors
    /// As [`Self::scan`]; what was handed out before the error is data all the same.
    pub fn scan_data(
        &mut self,
        bytes: &[u8],
        mut data: impl FnMut(&[u8]),
    ) -> Result<Scanned, ChunkError> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::End {
            if self.state == State::Data {
                let rest = bytes.len() - at;
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest);
                self.left -= taken as u64;
                data(&bytes[at..at + taken]);
                at += taken;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(Scanned { used: at, ended: self.state == State::End })
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        match self.state {
            State::DataCr => return expect(byte, b'\r', State::DataLf, ChunkError::Length),
            State::DataLf => {
                self.line = 0;
                return expect(byte, b'\n', State::Size, ChunkError::Length);
            }
            State::LastLf => return expect(byte, b'\n', State::End, ChunkError::Line),
            _ => {}
        }
        self.count()?;
        let text = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
        match self.state {
            State::Size => match char::from(byte).to_digit(16) {
                Some(_) if self.line > 15 => Err(ChunkError::Size),
                Some(digit) => {
                    self.left = self.left * 16 + u64::from(digit);
                    Ok(State::Size)
                }
                None if self.line == 1 => Err(ChunkError::Size),
                None if byte == b';' => Ok(State::Extension),
                None => expect(byte, b'\r', State::SizeEnd, ChunkError::Size),
            },
            State::Extension if text => Ok(State::Extension),
            State::Extension => expect(byte, b'\r', State::SizeEnd, ChunkError::Line),
            State::SizeEnd => {
                self.line = 0;
                let next = if self.left == 0 { State::Trailer } else { State::Data };
                expect(byte, b'\n', next, ChunkError::Line)
            }
            State::Trailer if byte == b'\r' => Ok(State::LastLf),
            State::Trailer if is_token(byte) => Ok(State::TrailerName),
            State::TrailerName if is_token(byte) => Ok(State::TrailerName),
            State::TrailerName if byte == b':' => Ok(State::TrailerValue),
            State::TrailerValue if text => Ok(State::TrailerValue),
            State::TrailerValue => expect(byte, b'\r', State::TrailerLf, ChunkError::Line),
            State::TrailerLf => {
                self.line = 0;
                expect(byte, b'\n', State::Trailer, ChunkError::Line)
            }
            _ => Err(ChunkError::Trailer),
        }
    }

    fn count(&mut self) -> Result<(), ChunkError> {
        self.line += 1;
        let trailer = matches!(self.state, State::Trailer | State::TrailerName)
            || matches!(self.state, State::TrailerValue | State::TrailerLf);
        self.trailers += u32::from(trailer);
        let fits = self.line <= LINE_LIMIT && self.trailers <= TRAILER_LIMIT;
        if fits { Ok(()) } else { Err(ChunkError::TooLong) }
    }
}

fn expect(byte: u8, wanted: u8, next: State, error: ChunkError) -> Result<State, ChunkError> {
    if byte == wanted { Ok(next) } else { Err(error) }
}

/// A character of a field name (RFC 9110 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Result<(usize, bool), ChunkError>) {
        let bytes: Vec<u8> = body.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let whole = ChunkScanner::default().scan(&bytes);
        assert_eq!(whole.map(|s| (s.used, s.ended)), expected, "{body:?}");
        // The same, one byte at a time.
        let mut scanner = ChunkScanner::default();
        let mut used = 0;
        for byte in bytes {
            match scanner.scan(&[byte]) {
                Ok(scanned) if scanned.ended => {
                    assert_eq!(Ok((used + scanned.used, true)), expected, "{body:?}");
                    return;
                }
                Ok(scanned) => used += scanned.used,
                Err(error) => return assert_eq!(Err(error), expected, "{body:?}"),
            }
        }
        assert_eq!(Ok((used, false)), expected, "{body:?}");
    }

    #[test]
    fn a_body_ends_after_its_last_chunk_and_the_empty_line() {
        check("5\r\nhello\r\n0\r\n\r\n", Ok((15, true)));
        check("5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n", Ok((15, true)));
        check("0\r\n\r\n", Ok((5, true)));
        check("A\r\n0123456789\r\n00\r\n\r\n", Ok((21, true)));
        check("1;a=\"b c\"\r\nx\r\n0;z\r\nX-T: 1\r\nY:\r\n\r\n", Ok((33, true)));
        check("5\r\nhel", Ok((6, false)));
        check("5\r\nhello\r\n0\r\n", Ok((13, false)));
        check("", Ok((0, false)));
    }

    #[test]
    fn a_size_is_hexadecimal_digits_alone() {
        for size in ["", " 5", "5 ", "\t5", "+5", "-5", "0x5", "g", "5h", "5\u{b2}", "5_0", ";x"] {
            check(&format!("{size}\r\nhello\r\n0\r\n\r\n"), Err(ChunkError::Size));
        }
        check("0000000000000005\r\n", Err(ChunkError::Size));
        check("fffffffffffffff\r\nx", Ok((18, false)));
        check("5\nhello\n0\n\n", Err(ChunkError::Size));
    }

    #[test]
    fn lines_between_chunks_end_in_cr_lf() {
        check("5\r\r\nhello", Err(ChunkError::Line));
        check("5\rhello", Err(ChunkError::Line));
        check("5;x\nhello", Err(ChunkError::Line));
        check("5;x\0\r\nhello", Err(ChunkError::Line));
        check("0\r\n\n", Err(ChunkError::Trailer));
        check("0\r\n\rX", Err(ChunkError::Line));
        check("0\r\nX: a\nY: b\r\n\r\n", Err(ChunkError::Line));
    }

    #[test]
    fn a_chunk_is_as_long_as_its_size() {
        check("5\r\nhelloo\r\n0\r\n\r\n", Err(ChunkError::Length));
        check("5\r\nhell\r\n0\r\n\r\n", Err(ChunkError::Length));
        check("5\r\nhello0\r\n\r\n", Err(ChunkError::Length));
        check("5\r\nhello\n0\r\n\r\n", Err(ChunkError::Length));
    }

    #[test]
    fn trailers_are_fields() {
        for line in ["X", " X: y", "X : y", ": y", "GET / HTTP/1.1", "\u{e9}: x"] {
            check(&format!("0\r\n{line}\r\n\r\n"), Err(ChunkError::Trailer));
        }
        check("0\r\nX: \0\r\n\r\n", Err(ChunkError::Line));
    }

    #[test]
    fn lines_and_trailers_are_bounded() {
        check(&format!("5;{}\r\n", "x".repeat(300)), Err(ChunkError::TooLong));
        check(&format!("0\r\nX: {}\r\n", "x".repeat(300)), Err(ChunkError::TooLong));
        check(&format!("0\r\n{}", "X: y\r\n".repeat(700)), Err(ChunkError::TooLong));
    }
}
