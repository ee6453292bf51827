//! Records as lines: escaped text, hexadecimal digits, or JSON.

use ringest_base::text::escape;
use ringest_base::text::json::Object;
use ringest_base::text::rfc3339::Rfc3339;
use ringest_engine::batch::arena::Datagram;

/// The format of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// The payload as text. Bytes that do not print are escaped.
    #[default]
    Text,
    /// The payload as hexadecimal digits.
    Hex,
    /// `{"peer","time","length","payload"}`, or `payload_hex` where the payload is not UTF-8; with
    /// `kernel_time`, `destination`, `ttl`, `dscp` and `ecn` where the engine was told to ask.
    Json,
}

/// Lines are written at this size, bytes, even before their batch is done. Lower costs system calls, higher
/// costs memory: escapes make a batch up to six times as long.
pub(crate) const WRITE_BYTES: usize = 64 << 10;

ringest_base::names!(Format {
    "text" => Text;
    "hex" => Hex;
    "json" => Json
});

/// Appends a record as a line.
pub(crate) fn write_line(
    out: &mut Vec<u8>,
    format: Format,
    datagram: &Datagram<'_>,
    record: &[u8],
) {
    match format {
        Format::Text => escape::text(out, record),
        Format::Hex => escape::hex(out, record),
        Format::Json => write_json(out, datagram, record),
    }
    out.push(b'\n');
}

/// Appends a JSON object. Keys behind the payload are there only where the engine was told to ask.
fn write_json(out: &mut Vec<u8>, datagram: &Datagram<'_>, bytes: &[u8]) {
    let mut object = Object::begin(out);
    object.address("peer", datagram.peer());
    object.time("time", Rfc3339(datagram.unix_time_ns()));
    object.payload(bytes);
    if let Some(time) = datagram.kernel_unix_ns() {
        object.time("kernel_time", Rfc3339(time));
    }
    if let Some(destination) = datagram.destination() {
        object.address("destination", destination);
    }
    if let Some(hops) = datagram.hop_limit() {
        object.number("ttl", hops);
    }
    if let Some(class) = datagram.traffic_class() {
        object.number("dscp", class >> 2);
        object.number("ecn", class & 3);
    }
    object.end();
}
