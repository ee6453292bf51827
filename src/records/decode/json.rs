//! JSON: one object, or several with white space between them (NDJSON). Each is validated (RFC 8259,
//! and UTF-8) and kept as it was given. After something that is no object, records are looked for again
//! from the next line on, which must then hold whole objects.

use serde::de::IgnoredAny;

use crate::decode::{Decoder, Reject};

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub struct Json;

const NO_OBJECT: &str = "not a JSON object";

impl Decoder for Json {
    fn decode<'a>(
        &mut self,
        payload: &'a [u8],
        record: &mut dyn FnMut(&'a [u8]),
        reject: &mut dyn FnMut(Reject<'a>),
    ) {
        let mut rest = payload.trim_ascii_start();
        while !rest.is_empty() {
            if let Some(len) = object(rest) {
                record(&rest[..len]);
                rest = rest[len..].trim_ascii_start();
                continue;
            }
            // What is broken may go on over several lines: it ends before the first that is whole.
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
            reject(Reject { bytes, reason: NO_OBJECT });
            rest = good.trim_ascii_start();
        }
    }
}

/// Bytes of the object that `text` begins with.
fn object(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    let len = values.byte_offset();
    // Two objects must not touch anything but white space, nor each other's tail.
    let ends = text.get(len).is_none_or(|next| next.is_ascii_whitespace() || *next == b'{');
    (ends && str::from_utf8(&text[..len]).is_ok()).then_some(len)
}

/// Whether a line holds objects and nothing else.
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
    use crate::decode::Decode;
    use crate::decode::tests::decode;

    fn json(text: &str) -> (Vec<&str>, Vec<&str>) {
        let (records, rejects) = decode(Decode::Json, text.as_bytes());
        let text = |bytes| str::from_utf8(bytes).unwrap();
        (
            records.into_iter().map(text).collect(),
            rejects.into_iter().map(|(bytes, _)| text(bytes)).collect(),
        )
    }

    #[test]
    fn objects_are_kept_as_given() {
        assert_eq!(json(r#"{"a": 1}"#), (vec![r#"{"a": 1}"#], vec![]));
        let pretty = "{\n  \"a\": [1, {\"b\": null}]\n}";
        assert_eq!(json(pretty), (vec![pretty], vec![]));
        let lines = "{\"a\":1}\n{\"a\":2,\"a\":3}\r\n\n{}\n";
        assert_eq!(json(lines), (vec!["{\"a\":1}", "{\"a\":2,\"a\":3}", "{}"], vec![]));
        assert_eq!(json(""), (vec![], vec![]));
        assert_eq!(json(" \n"), (vec![], vec![]));
    }

    #[test]
    fn what_is_no_object_is_rejected_by_itself() {
        for text in ["1", "[{}]", "\"{}\"", "{", "{\"a\":}", "nul", "{}x", "{'a':1}", "{\"a\":1,}"]
        {
            assert_eq!(json(text), (vec![], vec![text]), "{text}");
        }
        let mixed = "{\"a\":1}\noops\n{\"a\":2}\n{\"cut\":\n";
        assert_eq!(json(mixed), (vec!["{\"a\":1}", "{\"a\":2}"], vec!["oops", "{\"cut\":"]));
        // A broken object over several lines is one reject, and what is in it is no record.
        let broken = "{\n \"list\": [\n  {\"x\": 1},\n }\n{\"whole\":1}";
        let (records, rejects) = json(broken);
        assert_eq!(records, ["{\"whole\":1}"]);
        assert_eq!(rejects.len(), 1);
    }

    #[test]
    fn bytes_that_are_no_text_and_endless_nesting_are_refused() {
        let (records, rejects) = decode(Decode::Json, b"{\"a\":\"\xff\"}");
        assert_eq!((records.len(), rejects.len()), (0, 1));
        let deep = "{\"a\":".repeat(20_000);
        let (records, rejects) = decode(Decode::Json, deep.as_bytes());
        assert_eq!((records.len(), rejects.len()), (0, 1));
    }
}
