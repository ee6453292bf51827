//! A store of objects in this process that speaks as much of S3's HTTP as Tansu asks for: what it keeps
//! outlives a broker that is killed.
//!
//! Kept in memory, versioned by an ETag that changes with each write; `If-None-Match: *` and `If-Match` make a
//! write conditional, which the broker's own records of where a log ends rest on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Bytes of one object; a batch of records is one.
const OBJECT_BYTES_MAX: usize = 64 << 20;

/// Any time: the broker does not look at it.
const LAST_MODIFIED: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

#[derive(Debug, Default)]
struct CommitIndex {
    objects: Mutex<BTreeMap<String, (u64, Vec<u8>)>>,
    stop: AtomicBool,
}

/// Stopped when dropped.
#[derive(Debug)]
pub(crate) struct ObjectStore {
    shelf: Arc<CommitIndex>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl ObjectStore {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shelf = Arc::<CommitIndex>::default();
        let serving = Arc::clone(&shelf);
        let serve = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shelf = Arc::clone(&serving);
                let talk = move || {
                    // A broker that was killed breaks its connections.
                    let _ = converse(&shelf, &stream);
                };
                std::thread::Builder::new().name("objects".to_owned()).spawn(talk).unwrap();
            }
        };
        let thread = std::thread::Builder::new().name("object-store".to_owned()).spawn(serve);
        Self { shelf, address, thread: Some(thread.unwrap()) }
    }

    /// Returns the environment by which a broker finds it; the storage is `s3://BUCKET/`.
    pub(crate) fn env(&self) -> [(&'static str, String); 6] {
        [
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", "tests".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "tests".to_owned()),
            ("AWS_REGION", "local".to_owned()),
            ("AWS_CONDITIONAL_PUT", "etag".to_owned()),
        ]
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        self.shelf.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Default)]
struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Response {
    status: &'static str,
    etag: Option<u64>,
    body: Vec<u8>,
}

impl Response {
    fn new(status: &'static str) -> Self {
        Self { status, etag: None, body: Vec::new() }
    }
}

/// Serves one connection, request after request.
fn converse(shelf: &CommitIndex, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        let response = answer(shelf, &request);
        let Response { status, etag, body } = &response;
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
        if let Some(etag) = etag {
            head += &format!("ETag: \"{etag}\"\r\nLast-Modified: {LAST_MODIFIED}\r\n");
        }
        let mut bytes = (head + "\r\n").into_bytes();
        if request.method != "HEAD" {
            bytes.extend_from_slice(body);
        }
        let mut stream = stream;
        stream.write_all(&bytes)?;
    }
    Ok(())
}

fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    };
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
    let mut request = Request { method, path: decoded(path), query, ..Request::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((key, value)) = line.trim_end().split_once(':') else { break };
        request.headers.insert(key.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = request.headers.get("content-length").map_or("0", String::as_str);
    let length: usize = length.parse().map_err(io::Error::other)?;
    assert!(length <= OBJECT_BYTES_MAX && !request.headers.contains_key("transfer-encoding"));
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}

/// Decodes `%XX` in a path; all other characters stand for themselves.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) if byte == b'%' => {
                bytes.push(value);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn answer(shelf: &CommitIndex, request: &Request) -> Response {
    let mut objects = shelf.objects.lock().unwrap();
    // `/BUCKET/KEY`
    let path = request.path.trim_start_matches('/');
    let key = path.split_once('/').map_or("", |(_, key)| key).to_owned();
    let held = objects.get(&key).map(|(etag, _)| *etag);
    match request.method.as_str() {
        "GET" if request.query.contains_key("list-type") => list(&objects, &request.query),
        "GET" | "HEAD" => match objects.get(&key) {
            Some((etag, bytes)) => part(*etag, bytes, request.headers.get("range")),
            None => Response::new("404 Not Found"),
        },
        "PUT" => {
            let quoted = |etag: u64| format!("\"{etag}\"");
            let fresh = request.headers.contains_key("if-none-match");
            let expected = request.headers.get("if-match");
            if (fresh && held.is_some())
                || expected.is_some_and(|etag| Some(etag) != held.map(quoted).as_ref())
            {
                return Response::new("412 Precondition Failed");
            }
            let etag = held.unwrap_or(0) + 1;
            objects.insert(key, (etag, request.body.clone()));
            Response { etag: Some(etag), ..Response::new("200 OK") }
        }
        "DELETE" => {
            objects.remove(&key);
            Response::new("204 No Content")
        }
        _ => Response::new("501 Not Implemented"),
    }
}

/// Returns an object, or the bytes of it that were asked for.
fn part(etag: u64, bytes: &[u8], range: Option<&String>) -> Response {
    let asked = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (status, body) = match asked {
        Some((first, last)) => {
            let first = first.parse().unwrap_or(0).min(bytes.len());
            let end = last.parse().map_or(bytes.len(), |last: usize| last + 1).min(bytes.len());
            ("206 Partial Content", bytes[first..end.max(first)].to_vec())
        }
        None => ("200 OK", bytes.to_vec()),
    };
    Response { status, etag: Some(etag), body }
}

/// Returns the keys below a prefix, and the folders, in one page.
fn list(objects: &BTreeMap<String, (u64, Vec<u8>)>, query: &BTreeMap<String, String>) -> Response {
    let of = |key: &str| query.get(key).map_or("", String::as_str);
    let (prefix, delimiter, after) = (of("prefix"), of("delimiter"), of("start-after"));
    let mut folders = BTreeSet::new();
    let mut xml = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
    for (key, (etag, bytes)) in objects.range(prefix.to_owned()..) {
        let Some(rest) = key.strip_prefix(prefix) else { break };
        if key.as_str() <= after && !after.is_empty() {
            continue;
        }
        if let (false, Some(at)) = (delimiter.is_empty(), rest.find(delimiter)) {
            folders.insert(format!("{prefix}{}", &rest[..at + delimiter.len()]));
            continue;
        }
        xml += &format!(
            "<Contents><Key>{key}</Key><LastModified>2023-11-14T22:13:20Z</LastModified>\
             <ETag>\"{etag}\"</ETag><Size>{}</Size></Contents>",
            bytes.len()
        );
    }
    for folder in folders {
        xml += &format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
    }
    xml += "</ListBucketResult>";
    Response { body: xml.into_bytes(), ..Response::new("200 OK") }
}
