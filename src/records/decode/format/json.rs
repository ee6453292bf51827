//! JSON objects: one, or several with white space between them (NDJSON). Each is checked (RFC 8259 and
//! UTF-8) and kept as it was sent. Behind a part that is no object, the next record begins at the next line
//! that holds whole objects and nothing else.

use serde::de::IgnoredAny;

use crate::decode::decoder::{Decoded, Format, Records, Reject};
use ringest_engine::batch::arena::Datagram;

/// Takes each JSON object of a frame as one record.
#[derive(Clone, Copy, Debug)]
pub struct Json;

const NO_OBJECT: &str = "not a JSON object";

impl Format for Json {
    fn decode(&mut self, frame: &[u8], _: &Datagram<'_>, out: &mut dyn Records) -> Decoded {
        let mut rest = frame.trim_ascii_start();
        while !rest.is_empty() {
            if let Some(len) = object(rest) {
                out.record(&rest[..len]);
                rest = rest[len..].trim_ascii_start();
                continue;
            }
            // A broken object may span several lines: the reject ends before the first line that is whole.
            let mut good = rest;
            loop {
                good = match good.iter().position(|byte| *byte == b'\n') {
                    Some(end) => &good[end + 1..],
                    None => &[],
                };
                let line = good.split(|byte| *byte == b'\n').next().unwrap_or_default();
                if good.is_empty() || is_whole(line) {
                    break;
                }
            }
            let bytes = rest[..rest.len() - good.len()].trim_ascii_end();
            out.reject(Reject { bytes, reason: NO_OBJECT });
            rest = good.trim_ascii_start();
        }
        Decoded::Whole
    }
}

/// Returns the length of the object that `text` begins with, bytes, or `None` if it begins with none.
fn object(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    let len = values.byte_offset();
    // Behind an object there is white space, another object, or the end.
    let ends = text.get(len).is_none_or(|next| next.is_ascii_whitespace() || *next == b'{');
    (ends && str::from_utf8(&text[..len]).is_ok()).then_some(len)
}

/// Returns whether a line holds objects and nothing else.
fn is_whole(line: &[u8]) -> bool {
    let mut rest = line.trim_ascii();
    if rest.is_empty() {
        return false;
    }
    while let Some(len) = object(rest) {
        rest = rest[len..].trim_ascii_start();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use crate::decode::formats::tests::decode;

    fn json(text: &str) -> (Vec<String>, Vec<String>) {
        let (records, rejects) = decode("json", text.as_bytes());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            records.into_iter().map(text).collect(),
            rejects.into_iter().map(|(bytes, _)| text(bytes)).collect(),
        )
    }

    #[test]
    fn objects_are_kept_as_given() {
        let json = |text: &str| {
            let (records, rejects) = json(text);
            assert_eq!(rejects, [""; 0], "{text}");
            records
        };
        assert_eq!(json(r#"{"a": 1}"#), [r#"{"a": 1}"#]);
        let pretty = "{\n  \"a\": [1, {\"b\": null}]\n}";
        assert_eq!(json(pretty), [pretty]);
        let lines = "{\"a\":1}\n{\"a\":2,\"a\":3}\r\n\n{}\n";
        assert_eq!(json(lines), ["{\"a\":1}", "{\"a\":2,\"a\":3}", "{}"]);
        assert_eq!(json(""), [""; 0]);
        assert_eq!(json(" \n"), [""; 0]);
    }

    #[test]
    fn what_is_no_object_is_rejected_by_itself() {
        for text in ["1", "[{}]", "\"{}\"", "{", "{\"a\":}", "nul", "{}x", "{'a':1}", "{\"a\":1,}"]
        {
            assert_eq!(json(text), (vec![], vec![text.to_owned()]), "{text}");
        }
        let mixed = "{\"a\":1}\noops\n{\"a\":2}\n{\"cut\":\n";
        let (records, rejects) = json(mixed);
        assert_eq!(records, ["{\"a\":1}", "{\"a\":2}"]);
        assert_eq!(rejects, ["oops", "{\"cut\":"]);
        // A broken object over several lines is one reject, and what is in it is no record.
        let broken = "{\n \"list\": [\n  {\"x\": 1},\n }\n{\"whole\":1}";
        let (records, rejects) = json(broken);
        assert_eq!(records, ["{\"whole\":1}"]);
        assert_eq!(rejects.len(), 1);
    }

    #[test]
    fn bytes_that_are_no_text_and_endless_nesting_are_refused() {
        let (records, rejects) = decode("json", b"{\"a\":\"\xff\"}");
        assert_eq!((records.len(), rejects.len()), (0, 1));
        let deep = "{\"a\":".repeat(20_000);
        let (records, rejects) = decode("json", deep.as_bytes());
        assert_eq!((records.len(), rejects.len()), (0, 1));
    }
}
