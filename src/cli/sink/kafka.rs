//! The flags and secrets of `--sink kafka:BROKERS/TOPIC`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use ringest_ship::carrier::Carrier;
use ringest_ship::target::kafka::KafkaTarget;

use crate::cli::args::secret::{read, secret};
use crate::cli::args::values::given;

/// Bytes of the file of `--kafka-config`: librdkafka's properties all together are shorter.
const CONFIG_BYTES_MAX: u64 = 256 << 10;

/// Where the name and the password come from: never from the command line, which everyone may read.
const USER: &str = "RINGEST_KAFKA_USER";
const PASSWORD: &str = "RINGEST_KAFKA_PASSWORD";

/// How records are handed to Kafka.
#[derive(Args, Debug)]
pub(crate) struct KafkaArgs {
    /// Properties of librdkafka, one KEY=VALUE a line, # before comments: TLS, SASL, compression, batches.
    /// Name and password are better in RINGEST_KAFKA_USER and RINGEST_KAFKA_PASSWORD, or in files that
    /// RINGEST_KAFKA_USER_FILE and RINGEST_KAFKA_PASSWORD_FILE name
    #[arg(long, value_name = "FILE", help_heading = "Kafka")]
    kafka_config: Option<PathBuf>,
}

impl KafkaArgs {
    /// The first of these flags that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let Self { kafka_config } = self;
        given([("--kafka-config", kafka_config.is_some())])
    }

    /// A client for the topic, which may hold secrets: show it to nobody.
    #[cfg(feature = "kafka")]
    pub(crate) fn carrier(&self, target: &KafkaTarget) -> Result<Box<dyn Carrier>, String> {
        use ringest_ship::kafka::{Kafka, KafkaSpec, Login, Property};
        let lines = self.properties()?;
        let property =
            |Line { key, value, .. }: &Line| Property { key: key.clone(), value: value.clone() };
        let spec = KafkaSpec {
            brokers: target.brokers.clone(),
            topic: target.topic.clone(),
            properties: lines.iter().map(property).collect(),
            login: login(|name| std::env::var_os(name))?
                .map(|(user, password)| Login { user, password }),
        };
        match Kafka::new(&spec) {
            Ok(kafka) => Ok(Box::new(kafka)),
            Err(refused) => {
                let line = refused.property.and_then(|place| lines.get(place));
                Err(match (&self.kafka_config, line) {
                    (Some(path), Some(Line { number, .. })) => {
                        format!("--kafka-config {}, line {number}: {refused}", path.display())
                    }
                    _ => format!("{target}: {refused}"),
                })
            }
        }
    }

    /// No client: it is not built in. What was given is read all the same, so that it can be mended first.
    #[cfg(not(feature = "kafka"))]
    pub(crate) fn carrier(&self, target: &KafkaTarget) -> Result<Box<dyn Carrier>, String> {
        self.properties()?;
        login(|name| std::env::var_os(name))?;
        Err(format!(
            "{target}: this ringest was built without Kafka; build it with `cargo build --release \
             --features kafka` (Debian: apt-get install g++ make pkg-config libssl-dev), or keep the \
             journal alone and ship it later"
        ))
    }

    fn properties(&self) -> Result<Vec<Line>, String> {
        let Some(path) = &self.kafka_config else { return Ok(Vec::new()) };
        let at = |reason: String| format!("--kafka-config {}{reason}", path.display());
        let text = read(path, CONFIG_BYTES_MAX).map_err(|reason| at(format!(": {reason}")))?;
        parse(&text).map_err(|(line, reason)| at(format!(", line {line}: {reason}")))
    }
}

/// A property and where it stands. The value may be a secret.
#[derive(Clone, PartialEq, Eq)]
struct Line {
    number: usize,
    key: String,
    value: String,
}

impl fmt::Debug for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}=…", self.number, self.key)
    }
}

/// `KEY=VALUE` lines; an error is at a line.
fn parse(text: &str) -> Result<Vec<Line>, (usize, String)> {
    let mut lines: Vec<Line> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err((number, "expected KEY=VALUE, such as compression.codec=zstd".to_owned()));
        };
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        // It is repeated in what is said of it.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err((number, "no property has such a name".to_owned()));
        }
        if let Some(before) = seen.insert(key.clone(), number) {
            return Err((number, format!("{key} is given twice, first in line {before}")));
        }
        lines.push(Line { number, key, value });
    }
    Ok(lines)
}

/// Name and password, if there are any.
fn login(env: impl Fn(&str) -> Option<OsString>) -> Result<Option<(String, String)>, String> {
    match (secret(USER, &env)?, secret(PASSWORD, &env)?) {
        (Some(user), Some(password)) => Ok(Some((user, password))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(format!("{USER} is set; set {PASSWORD} or {PASSWORD}_FILE, too")),
        (None, Some(_)) => Err(format!("{PASSWORD} is set; set {USER} or {USER}_FILE, too")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> (tempfile::NamedTempFile, KafkaArgs) {
        let file = holding(text);
        let args = KafkaArgs { kafka_config: Some(file.path().to_owned()) };
        (file, args)
    }

    /// A file that holds `text`, removed when dropped.
    fn holding(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn properties_are_lines_and_an_error_names_its_line() {
        let lines = parse("# TLS\n\n ssl.ca.location = /ca.pem \nsasl.password=a=b#c\r\n").unwrap();
        let of = |line: &Line| (line.number, line.key.clone(), line.value.clone());
        assert_eq!(of(&lines[0]), (3, "ssl.ca.location".to_owned(), "/ca.pem".to_owned()));
        assert_eq!(of(&lines[1]), (4, "sasl.password".to_owned(), "a=b#c".to_owned()));
        assert!(!format!("{lines:?}").contains("a=b#c"));
        for (text, line) in [("\nlinger.ms", 2), ("a=1\n#\na=2", 3), ("=1", 1), ("\x1b=1", 1)] {
            let (number, reason) = parse(text).unwrap_err();
            assert_eq!(number, line, "{text}: {reason}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_is_told_with_its_name() {
        let target: KafkaTarget = "kafka:127.0.0.1:9/t".parse().unwrap();
        let missing = KafkaArgs { kafka_config: Some("/no/such/file".into()) };
        let reason = missing.carrier(&target).unwrap_err();
        assert!(reason.starts_with("--kafka-config /no/such/file: cannot read it"), "{reason}");
        let (file, large) = args(&"#".repeat(300 << 10));
        let reason = large.carrier(&target).unwrap_err();
        assert!(reason.contains(&file.path().display().to_string()) && reason.contains("larger"));
    }

    #[test]
    fn secrets_come_from_variables_or_from_files_and_both_or_neither() {
        let env = |pairs: &[(&'static str, &str)]| {
            let pairs: HashMap<&str, OsString> =
                pairs.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
            login(move |name| pairs.get(name).cloned())
        };
        let both = |user: &str, password: &str| Ok(Some((user.to_owned(), password.to_owned())));
        assert_eq!(env(&[]), Ok(None));
        assert_eq!(env(&[(USER, "u"), (PASSWORD, "hunter2 ")]), both("u", "hunter2 "));
        let file = holding("hunter2\r\n");
        let path = file.path().to_str().unwrap();
        let with_file = [(USER, "u"), ("RINGEST_KAFKA_PASSWORD_FILE", path)];
        assert_eq!(env(&with_file), both("u", "hunter2"));
        for (pairs, part) in [
            (vec![(USER, "u")], "set RINGEST_KAFKA_PASSWORD"),
            (vec![(PASSWORD, "hunter2")], "set RINGEST_KAFKA_USER"),
            (
                vec![(USER, "u"), (PASSWORD, "hunter2"), ("RINGEST_KAFKA_PASSWORD_FILE", path)],
                "both set",
            ),
            (vec![(USER, "u"), ("RINGEST_KAFKA_PASSWORD_FILE", "/no/such/file")], "/no/such/file"),
        ] {
            let reason = env(&pairs).unwrap_err();
            assert!(reason.contains(part) && !reason.contains("hunter2"), "{reason}");
        }
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn what_librdkafka_does_not_take_is_told_with_its_line_and_without_secrets() {
        let target: KafkaTarget = "kafka:127.0.0.1:9/t".parse().unwrap();
        for (text, line, part) in [
            ("#\nlinger.ms=5\nno.such=1", 3, "No such configuration property: \"no.such\""),
            ("linger.ms=soon", 1, "linger.ms"),
            ("linger.ms=5\nacks=1", 2, "acks cannot be set"),
            ("\nbootstrap.servers=h:1", 2, "--sink kafka:"),
        ] {
            let (_file, args) = args(text);
            let reason = args.carrier(&target).unwrap_err();
            assert!(reason.contains(&format!(", line {line}: ")), "{reason}");
            assert!(reason.contains(part), "{reason}");
        }
        // An error that only the combination causes is reported for the target.
        let (_file, together) =
            args("sasl.password=hunter2\nssl.ca.location=/no/such/ca\nsecurity.protocol=ssl");
        let reason = together.carrier(&target).unwrap_err();
        assert!(
            reason.starts_with("kafka:127.0.0.1:9/t: ") && reason.contains("ssl.ca.location"),
            "{reason}"
        );
        assert!(!reason.contains("hunter2"));
        let (_file, good) = args("compression.type=zstd\nsasl.password=hunter2");
        let carrier = good.carrier(&target).unwrap();
        assert!(!format!("{carrier:?} {good:?}").contains("hunter2"));
    }

    #[cfg(not(feature = "kafka"))]
    #[test]
    fn without_the_feature_it_says_how_to_build_with_it() {
        let target: KafkaTarget = "kafka:127.0.0.1:9/t".parse().unwrap();
        let reason = KafkaArgs { kafka_config: None }.carrier(&target).unwrap_err();
        assert!(reason.contains("--features kafka"), "{reason}");
    }
}
