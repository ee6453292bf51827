//! Makes bytes from the network safe to look at. A terminal obeys what it is sent (move, clear,
//! retitle, answer on the user's behalf), so no control byte of a datagram may reach one, in any
//! encoding: not C0, not DEL, not C1 (U+0080 to U+009F, which some terminals obey too), and no
//! invalid UTF-8, which each terminal reads in its own way.

/// Appends `payload` as one line of text without its end. Printable text passes; everything else,
/// and the backslash, becomes an escape of Rust's string literals (`\n`, `\u{1b}`, `\xff`), so that
/// two different payloads never look the same.
pub fn text(out: &mut Vec<u8>, payload: &[u8]) {
    let mut rest = payload;
    loop {
        // Nearly all of a log line; what is below costs ten times as much a byte.
        let plain = plain_length(rest, [b'\\'; 2]);
        out.extend_from_slice(&rest[..plain]);
        let Some(byte) = rest.get(plain) else { return };
        let end = match byte.is_ascii() {
            true => plain + 1,
            false => plain + rest[plain..].iter().take_while(|byte| !byte.is_ascii()).count(),
        };
        // A combining mark passes behind what it combines with.
        let base = plain.saturating_sub(1);
        let begin = if byte.is_ascii() { plain } else { base };
        escaped(out, &rest[begin..end], plain - begin);
        rest = &rest[end..];
    }
}

/// Appends the escapes of what is not plain, but for its first `known` bytes, which were appended.
fn escaped(out: &mut Vec<u8>, odd: &[u8], known: usize) {
    for (at, chunk) in odd.utf8_chunks().enumerate() {
        let known = if at == 0 { known } else { 0 };
        let quoted = chunk.valid().starts_with(['\'', '"']);
        // Quotes need no escape here, but escape_debug gives them one.
        let (valid, known) = if quoted { (&chunk.valid()[1..], 0) } else { (chunk.valid(), known) };
        valid.escape_debug().skip(known).for_each(|char| push(out, char));
        for byte in chunk.invalid() {
            out.extend_from_slice(b"\\x");
            hex(out, &[*byte]);
        }
    }
}

/// How many bytes in front stand for themselves: printable ASCII, but for two that are `odd` besides. Blocks
/// are looked at as the compiler's vectors, what is left 8 bytes at a time.
fn plain_length(bytes: &[u8], odd: [u8; 2]) -> usize {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != odd[0]) & (byte != odd[1]);
    let are_plain = |block: &&[u8; 32]| block.iter().fold(true, |all, byte| all & is_plain(*byte));
    let (blocks, _) = bytes.as_chunks();
    let mut plain = 32 * blocks.iter().take_while(are_plain).count();
    let (words, _) = bytes[plain..].as_chunks();
    for word in words {
        let found = odd_bytes(u64::from_le_bytes(*word), odd);
        if found != 0 {
            return plain + found.trailing_zeros() as usize / 8;
        }
        plain += 8;
    }
    plain + bytes[plain..].iter().take_while(|byte| is_plain(**byte)).count()
}

/// The highest bit of each byte that is not plain. Those behind the first one may be wrong: subtractions borrow.
fn odd_bytes(word: u64, odd: [u8; 2]) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    const HIGH: u64 = EACH << 7;
    let below = |word: u64, bound: u8| word.wrapping_sub(EACH * u64::from(bound)) & !word;
    let is = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    (word | below(word, b' ') | is(0x7f) | is(odd[0]) | is(odd[1])) & HIGH
}

fn push(out: &mut Vec<u8>, char: char) {
    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Appends two lower-case digits a byte.
pub fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
    );
}

/// Appends `text` as a JSON string (RFC 8259) that is also safe on a terminal: DEL, C1 and everything else
/// that does not print is escaped, which the RFC does not ask for. A reader gets the same string.
pub fn json(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text;
    loop {
        let plain = plain_length(rest.as_bytes(), [b'\\', b'"']);
        out.extend_from_slice(&rest.as_bytes()[..plain]);
        rest = &rest[plain..];
        let Some(char) = rest.chars().next() else { break };
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            char if prints(char) => push(out, char),
            char => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(b"\\u");
                    hex(out, &unit.to_be_bytes());
                }
            }
        }
        rest = &rest[char.len_utf8()..];
    }
    out.push(b'"');
}

/// Combining marks count as not printing; an escape is the same character to a JSON reader.
fn prints(char: char) -> bool {
    char.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(payload: &[u8]) -> String {
        let mut out = Vec::new();
        text(&mut out, payload);
        String::from_utf8(out).unwrap()
    }

    fn quoted(text: &str) -> String {
        let mut out = Vec::new();
        json(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    fn is_harmless(line: &str) -> bool {
        !line.chars().any(char::is_control)
    }

    #[test]
    fn text_passes_and_the_rest_is_escaped() {
        for (payload, line) in [
            (&b""[..], ""),
            (b"<34>Oct 11 su: 'su root' \"failed\"", "<34>Oct 11 su: 'su root' \"failed\""),
            (b"two\nlines\r\n", r"two\nlines\r\n"),
            (b"\x1b[2J\x07\0", r"\u{1b}[2J\u{7}\0"),
            (b"back\\slash", r"back\\slash"),
            (b"\xff\xc3", r"\xff\xc3"),
            ("e\u{301}, grüße, 世界".as_bytes(), "e\u{301}, grüße, 世界"),
            ("\u{9b}31m\u{85}".as_bytes(), r"\u{9b}31m\u{85}"),
            ("\u{202e}txt.exe".as_bytes(), r"\u{202e}txt.exe"),
            (b"\x9b31m\x7f", r"\x9b31m\u{7f}"),
        ] {
            assert_eq!(escaped(payload), line);
        }
    }

    #[test]
    fn json_strings_read_back_as_they_were() {
        let odd = "a\u{7f}\u{9b}2J\u{1b}\u{202e}\u{e0001}\"\\ü\u{301}\n";
        assert_eq!(serde_json::from_str::<String>(&quoted(odd)).unwrap(), odd);
        assert_eq!(quoted("\u{9b}\u{e0001}"), r#""\u009b\udb40\udc01""#);
    }

    /// A reader for what [`text`] writes.
    fn unescaped(line: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut chars = line.chars();
        let digits = |text: &str| u32::from_str_radix(text, 16).unwrap();
        while let Some(char) = chars.next() {
            if char != '\\' {
                push(&mut out, char);
                continue;
            }
            match chars.next().unwrap() {
                'x' => {
                    let byte: String = chars.by_ref().take(2).collect();
                    out.push(u8::try_from(digits(&byte)).unwrap());
                }
                'u' => {
                    let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    push(&mut out, char::from_u32(digits(&code)).unwrap());
                }
                'n' => out.push(b'\n'),
                'r' => out.push(b'\r'),
                't' => out.push(b'\t'),
                '0' => out.push(0),
                other => push(&mut out, other),
            }
        }
        out
    }

    proptest! {
        /// Byte by byte the same is found.
        #[test]
        fn what_is_plain_ends_at_the_first_odd_byte(
            bytes in proptest::collection::vec(
                prop_oneof![20 => b' '..=b'~', 1 => any::<u8>()], 0..100),
        ) {
            let odd = [b'\\', b'"'];
            let end = bytes.iter().position(|byte| !matches!(byte, b' '..=b'~') || odd.contains(byte));
            prop_assert_eq!(plain_length(&bytes, odd), end.unwrap_or(bytes.len()));
        }

        #[test]
        fn no_control_character_gets_out_and_nothing_is_lost(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let line = escaped(&payload);
            prop_assert!(is_harmless(&line), "{line:?}");
            prop_assert_eq!(unescaped(&line), payload);
        }

        #[test]
        fn no_control_character_of_valid_text_gets_out(payload in any::<String>()) {
            let line = escaped(payload.as_bytes());
            prop_assert!(is_harmless(&line), "{line:?}");
            prop_assert_eq!(unescaped(&line), payload.as_bytes());
            let quoted = quoted(&payload);
            prop_assert!(is_harmless(&quoted), "{quoted:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), payload);
        }
    }
}
