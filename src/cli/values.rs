//! Single values as they are typed: sizes, durations, cores, addresses. Each reader says what it
//! expected.

use std::net::SocketAddr;
use std::time::Duration;

use ringest::ListenAddr;

/// Cores are numbered below the size of the kernel's `cpu_set_t`.
const CORES_MAX: usize = 1024;

/// Longer than any run, short enough that adding it to a clock cannot overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Cores to pin to, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cores(pub(super) Vec<usize>);

/// A number of threads; `None` is `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Threads(pub(super) Option<usize>);

/// A bound on added latency; `None` is `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coalesce(pub(super) Option<Duration>);

/// `8192`, `64K`, `4M`, `1G`, with `KiB` and so on meaning the same.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let expected = || "expected bytes, such as 65536, 64K, 4M or 1G (1K is 1024)".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(expected()),
    };
    let number: usize = number.parse().map_err(|_| expected())?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is more than any host has"))
}

/// `5s`, `250ms`, `1m 30s`; longer than nothing.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| "expected a duration with its unit, such as 250ms, 5s or 1m".to_owned())?;
    if duration.is_zero() {
        return Err("expected longer than nothing, such as 250ms, 5s or 1m".to_owned());
    }
    if duration > DURATION_MAX {
        return Err("expected at most 100 years; leave it out to go on until stopped".to_owned());
    }
    Ok(duration)
}

/// `auto`, `0` or a duration.
pub(super) fn coalesce(text: &str) -> Result<Coalesce, String> {
    match text {
        "auto" => Ok(Coalesce(None)),
        "0" => Ok(Coalesce(Some(Duration::ZERO))),
        _ => duration(text).map(|bound| Coalesce(Some(bound))).map_err(|_| {
            "expected auto, 0 (never wait) or a duration with its unit, such as 200us".to_owned()
        }),
    }
}

/// `auto` or a number.
pub(super) fn threads(text: &str) -> Result<Threads, String> {
    if text == "auto" {
        return Ok(Threads(None));
    }
    let number = text.parse().map_err(|_| "expected auto or a number of threads".to_owned())?;
    Ok(Threads(Some(number)))
}

/// `0,2-3`.
pub(super) fn cores(text: &str) -> Result<Cores, String> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (core(first)?, core(last)?);
        if first > last {
            return Err(format!("{part} runs backwards: write {last}-{first}"));
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(format!("core {core} is given twice"));
            }
            cores.push(core);
        }
    }
    Ok(Cores(cores))
}

fn core(text: &str) -> Result<usize, String> {
    let core = text.parse().map_err(|_| "expected core numbers, such as 0 or 0,2-3".to_owned())?;
    if core >= CORES_MAX {
        return Err(format!("core {core}: cores are numbered below {CORES_MAX}"));
    }
    Ok(core)
}

/// `IP:PORT`, `[IP6]:PORT` or `*:PORT`.
pub(super) fn listen_addr(text: &str) -> Result<ListenAddr, String> {
    text.parse().map_err(|_| {
        "expected IP:PORT, [IP6]:PORT or *:PORT, such as 127.0.0.1:9000; names are not looked up"
            .to_owned()
    })
}

/// `IP:PORT` or `[IP6]:PORT` of a peer.
pub(super) fn peer_addr(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        "expected IP:PORT or [IP6]:PORT, such as 127.0.0.1:9000; names are not looked up".to_owned()
    })?;
    if address.port() == 0 {
        return Err("nothing can be sent to port 0".to_owned());
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_take_binary_suffixes() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("64K", 65_536),
            ("64k", 65_536),
            ("4M", 4 << 20),
            ("4MiB", 4 << 20),
            ("1G", 1 << 30),
            ("7b", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "K", "-1", "1.5M", "4 M", "1T", "0x10", "+5", "99999999999999999999", "4MM"]
        {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(size("17179869185G").is_err(), "overflow");
    }

    #[test]
    fn durations_need_a_unit_and_a_length() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        for text in
            ["", "5", "s", "-5s", "0s", "0ms", "5 fortnights", "1000y", "99999999999999999y"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn coalesce_is_auto_nothing_or_a_duration() {
        assert_eq!(coalesce("auto"), Ok(Coalesce(None)));
        assert_eq!(coalesce("0"), Ok(Coalesce(Some(Duration::ZERO))));
        assert_eq!(coalesce("200us"), Ok(Coalesce(Some(Duration::from_micros(200)))));
        assert!(coalesce("200").is_err());
        assert!(coalesce("off").is_err());
    }

    #[test]
    fn cores_are_lists_and_ranges_in_order() {
        assert_eq!(cores("0"), Ok(Cores(vec![0])));
        assert_eq!(cores("3,0-1"), Ok(Cores(vec![3, 0, 1])));
        assert_eq!(cores("0,2-3").unwrap().0, [0, 2, 3]);
        for text in ["", ",", "0,", "a", "1-", "-1", "3-1", "0,0", "0-2,1", "1024", "0-99999999999"]
        {
            assert!(cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn threads_are_auto_or_a_number() {
        assert_eq!(threads("auto"), Ok(Threads(None)));
        assert_eq!(threads("0"), Ok(Threads(Some(0))));
        assert!(threads("many").is_err());
        assert!(threads("-1").is_err());
    }

    #[test]
    fn a_peer_is_an_address_with_a_port() {
        assert!(peer_addr("[::1]:9000").is_ok());
        for text in ["*:9000", "localhost:9000", "127.0.0.1", "127.0.0.1:0"] {
            assert!(peer_addr(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in any::<String>()) {
            let _ = (size(&text), duration(&text), coalesce(&text), threads(&text), cores(&text));
            let _ = (listen_addr(&text), peer_addr(&text));
        }

        #[test]
        fn a_size_is_its_number_shifted(number in 0usize..1 << 30, suffix in 0usize..4) {
            let text = format!("{number}{}", ["", "K", "M", "G"][suffix]);
            prop_assert_eq!(size(&text), Ok(number << (10 * suffix)));
        }
    }
}
