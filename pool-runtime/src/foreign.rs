//! Texts of other processes, as they are shown: a terminal obeys control characters, and a log believes its lines.
//!
//! Whatever a worker says goes through here before it is printed or becomes a part of a message: panics, refusals, the
//! end of its standard error. Characters that a terminal would obey, and those that change the order in which a line is
//! read, appear as in a Rust literal: `\x1b`, `\u{202e}`.

use std::fmt::{self, Write};

/// The longest text that is shown, in bytes. The rest is left out, and counted.
pub(crate) const LONGEST: usize = 1 << 14;

/// A text of another process. It prints without what a terminal would obey, and cut off if it is long.
pub(crate) struct ForeignText<'t> {
    bytes: &'t [u8],
    /// Ends of lines and tabs stay as they are.
    lines: bool,
    longest: usize,
}

/// A text that is to be a part of a line: it has no further lines.
pub(crate) fn line(text: &(impl AsRef<[u8]> + ?Sized)) -> ForeignText<'_> {
    ForeignText { bytes: text.as_ref(), lines: false, longest: LONGEST }
}

/// A text of several lines.
pub(crate) fn block(text: &(impl AsRef<[u8]> + ?Sized)) -> ForeignText<'_> {
    ForeignText { lines: true, ..line(text) }
}

/// A part of a stream, which is as long as it is.
pub(crate) fn stream(bytes: &[u8]) -> ForeignText<'_> {
    ForeignText { longest: usize::MAX, ..block(bytes) }
}

/// The length of the beginning of a character that ends with these bytes: the rest of it may follow.
pub(crate) fn beginning_of_character(bytes: &[u8]) -> usize {
    let last = &bytes[bytes.len().saturating_sub(3)..];
    (1..=last.len()).rev().find(|length| is_beginning(&last[last.len() - length..])).unwrap_or(0)
}

fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

impl fmt::Display for ForeignText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.bytes;
        if shown.len() > self.longest {
            shown = &shown[..self.longest];
            shown = &shown[..shown.len() - beginning_of_character(shown)];
        }
        for chunk in shown.utf8_chunks() {
            let mut plain = chunk.valid();
            while let Some(at) = plain.find(|c| self.is_obeyed(c)) {
                let (before, rest) = plain.split_at(at);
                f.write_str(before)?;
                let mut rest = rest.chars();
                rest.next().map_or(Ok(()), |c| escape(f, c))?;
                plain = rest.as_str();
            }
            f.write_str(plain)?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        match self.bytes.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, "… ({more} more bytes)"),
        }
    }
}

impl ForeignText<'_> {
    fn is_obeyed(&self, c: char) -> bool {
        match c {
            '\n' | '\t' => !self.lines,
            // Other ends of lines, and what turns the direction of writing around.
            '\u{2028}' | '\u{2029}' => true,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' => true,
            c => c.is_control(),
        }
    }
}

fn escape(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '\n' | '\r' | '\t' => write!(f, "{}", c.escape_default()),
        c if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c)),
        c => write!(f, "{}", c.escape_unicode()),
    }
}

/// The same, as bytes to pass on.
pub(crate) fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(bytes.len());
    // Writing into a `String` does not fail.
    let _ = write!(text, "{}", stream(bytes));
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_texts_are_as_they_are() {
        for text in ["", "left: 1", "größer als Ⅷ: 你好, שלום 🦀", "a \\x1b that is one already"] {
            assert_eq!(line(text).to_string(), text);
        }
        assert_eq!(block("one\n\ttwo\n").to_string(), "one\n\ttwo\n");
        assert_eq!(line("one\n\ttwo").to_string(), "one\\n\\ttwo");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(block("\x1b[2J\x07\r\0\x7f").to_string(), "\\x1b[2J\\x07\\r\\x00\\x7f");
        assert_eq!(block("\u{9b}31m \u{85}").to_string(), "\\u{9b}31m \\u{85}");
        assert_eq!(block("\u{202e}\u{2066}\u{2028}").to_string(), "\\u{202e}\\u{2066}\\u{2028}");
        // A terminal of eight bits has controls among what is no UTF-8.
        assert_eq!(block(b"a\x9b1mb\xc3").to_string(), "a\\x9b1mb\\xc3");
        let all: String = (0..0x3000).filter_map(char::from_u32).collect();
        assert!(!line(&all[..LONGEST / 2]).to_string().contains(char::is_control));
    }

    #[test]
    fn the_length_is_bounded() {
        let long = "é".repeat(LONGEST);
        let shown = line(&long).to_string();
        assert!(shown.ends_with(&format!("é… ({LONGEST} more bytes)")), "{}", &shown[shown.len() - 40..]);
        assert_eq!(escaped(long.as_bytes()), long.as_bytes());
        // Within a character.
        let shown = line(&format!("x{long}")).to_string();
        assert!(
            !shown.contains("\\x") && shown.contains(&format!("({} more", LONGEST + 2)),
            "{}",
            &shown[shown.len() - 40..]
        );
    }

    #[test]
    fn the_beginning_of_a_character_is_known() {
        for (bytes, length) in [(&b""[..], 0), (b"abc", 0), ("é".as_bytes(), 0), (b"a\xc3", 1), (b"a\xf0\x9f\xa6", 3)]
        {
            assert_eq!(beginning_of_character(bytes), length, "{bytes:?}");
        }
        assert_eq!(beginning_of_character(b"\x80\x80\x80"), 0);
    }
}
