use proptest::prelude::*;

use super::*;

fn size(text: &str) -> Result<u64, String> {
    text.parse().map(ByteSize::bytes)
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse().map(|Span(span)| span)
}

fn rate(text: &str) -> Result<Rate, String> {
    text.parse()
}

#[test]
fn sizes_take_binary_and_decimal_units() {
    for (text, bytes) in [
        ("0", 0),
        ("65536", 65_536),
        ("64K", 65_536),
        ("64k", 65_536),
        ("64KiB", 65_536),
        ("64kB", 64_000),
        ("64KB", 64_000),
        ("4M", 4 << 20),
        ("4MiB", 4 << 20),
        ("10MB", 10_000_000),
        ("1G", 1 << 30),
        ("1.5G", 3 << 29),
        ("1.5M", 3 << 19),
        ("0.5K", 512),
        ("2.5GB", 2_500_000_000),
        ("1.2345KB", 1_234),
        ("1T", 1 << 40),
        ("1TiB", 1 << 40),
        ("1TB", 1_000_000_000_000),
        ("7b", 7),
        ("16777215.5T", 18_446_743_523_953_737_728),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "K",
        "-1",
        "4 M",
        "0x10",
        "+5",
        "4MM",
        "1.5",
        "1.5b",
        "1.",
        ".5K",
        "1.K",
        "1.2.3K",
        ".",
        "1e3",
        "4P",
        "1.0000000000000000001K",
        "٣K",
    ] {
        assert!(size(text).unwrap_err().starts_with("expected bytes"), "{text}");
    }
    for text in ["99999999999999999999", "17179869184G", "16777216T", "9".repeat(60).as_str()] {
        assert!(size(text).unwrap_err().contains("more than any host"), "{text}");
    }
    assert_eq!(ByteSize(3 << 29).to_string(), "1536M");
    assert_eq!(ByteSize(1_000).to_string(), "1000");
    assert_eq!(ByteSize(0).to_string(), "0");
}

#[test]
fn durations_need_a_unit_and_a_length() {
    assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
    assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
    assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
    for text in ["", "5", "s", "-5s", "0s", "0ms", "5 fortnights", "1000y", "99999999999999999y"] {
        assert!(duration(text).is_err(), "{text}");
    }
    assert_eq!("0".parse(), Ok(Pause(Duration::ZERO)));
    assert_eq!("1s".parse(), Ok(Pause(Duration::from_secs(1))));
    assert!("0s".parse::<Pause>().is_err() && "".parse::<Pause>().is_err());
}

#[test]
fn coalesce_is_auto_nothing_or_a_duration() {
    assert_eq!("auto".parse(), Ok(Coalesce(None)));
    assert_eq!("0".parse(), Ok(Coalesce(Some(Duration::ZERO))));
    assert_eq!("200us".parse(), Ok(Coalesce(Some(Duration::from_micros(200)))));
    assert!("200".parse::<Coalesce>().is_err());
    assert!("off".parse::<Coalesce>().is_err());
}

#[test]
fn threads_are_auto_or_a_number_and_numbers_may_be_hexadecimal() {
    assert_eq!("auto".parse(), Ok(Threads(None)));
    assert_eq!("0".parse(), Ok(Threads(Some(0))));
    assert!("many".parse::<Threads>().is_err() && "-1".parse::<Threads>().is_err());
    assert_eq!(("0xb8".parse(), "184".parse()), (Ok(Byte(184)), Ok(Byte(184))));
    assert!("256".parse::<Byte>().is_err() && "x".parse::<Byte>().is_err());
    assert_eq!("0xffffffff".parse(), Ok(Number(u32::MAX)));
}

#[test]
fn rates_are_datagrams_or_bits_and_never_nothing() {
    assert_eq!(rate("max"), Ok(Rate::Max));
    assert_eq!(rate("50000"), Ok(Rate::Pps(50_000.0)));
    assert_eq!(rate("1.5k"), Ok(Rate::Pps(1500.0)));
    assert_eq!(rate("100Mbps"), Ok(Rate::Bps(1e8)));
    for text in ["", "0", "0bps", "-1", "fast", "1X", "1Mb", "1e9", "inf", "."] {
        assert!(rate(text).is_err(), "{text}");
    }
    assert!(rate(&"9".repeat(400)).is_err(), "no finite number");
    assert_eq!(Rate::Bps(2.5e9).to_string(), "2500Mbps");
}

#[test]
fn cores_are_lists_and_ranges_in_order() {
    let cores = |text: &str| text.parse::<Cores>();
    assert_eq!(cores("0"), Ok(Cores(vec![0])));
    assert_eq!(cores("3,0-1"), Ok(Cores(vec![3, 0, 1])));
    assert_eq!(cores("0,2-3").unwrap().0, [0, 2, 3]);
    assert_eq!(cores("0,2-3").unwrap().to_string(), "0,2,3");
    for text in ["", ",", "0,", "a", "1-", "-1", "3-1", "0,0", "0-2,1", "1024", "0-99999999999"] {
        assert!(cores(text).is_err(), "{text}");
    }
}

#[test]
fn settings_files_hold_values_as_text_or_as_numbers() {
    let read = |json: &str| serde_json::from_str::<ByteSize>(json);
    assert_eq!(read("\"64K\"").unwrap(), ByteSize(65_536));
    assert_eq!(read("65536").unwrap(), ByteSize(65_536));
    assert!(
        read("-1").is_err()
            && read("1.5").is_err()
            && read("true").is_err()
            && read("null").is_err()
    );
    assert_eq!(serde_json::to_string(&Coalesce(None)).unwrap(), "\"auto\"");
    assert_eq!(serde_json::from_str::<Threads>("2").unwrap(), Threads(Some(2)));
    assert!(serde_json::from_str::<Span>("5").is_err());
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(
        bytes in any::<u64>(),
        shift in 0_u32..64,
        ns in 1..u64::try_from(SPAN_MAX.as_nanos()).unwrap(),
        per_second in prop_oneof![1e-9..1e12_f64, (1..1_000_000_u32).prop_map(f64::from)],
        thousands in 0_i32..4,
        cores in proptest::collection::hash_set(0..CORES_MAX, 1..20),
    ) {
        let size = ByteSize(bytes >> shift << (shift / 2));
        prop_assert_eq!(size.to_string().parse(), Ok(size));
        let span = Span(Duration::from_nanos(ns));
        prop_assert_eq!(span.to_string().parse(), Ok(span));
        let pause = Pause(Duration::from_nanos(ns >> shift));
        prop_assert_eq!(pause.to_string().parse(), Ok(pause));
        for rate in [Rate::Pps(per_second * 1000_f64.powi(thousands)), Rate::Bps(per_second), Rate::Max] {
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        let cores = Cores(cores.into_iter().collect());
        prop_assert_eq!(cores.to_string().parse(), Ok(cores));
        let number = Number(u32::try_from(bytes >> 32).unwrap());
        prop_assert_eq!(format!("{:#x}", number.0).parse(), Ok(number));
        prop_assert_eq!(number.to_string().parse(), Ok(number));
    }

    #[test]
    fn a_fraction_is_what_arithmetic_says(whole in 0_u64..1000, thousandths in 0_u64..1000, unit in 1_usize..14) {
        let (name, bytes) = SIZE_UNITS[unit];
        let text = format!("{whole}.{thousandths:03}{name}");
        match bytes {
            1 => prop_assert!(size(&text).is_err()),
            _ => prop_assert_eq!(size(&text), Ok((whole * 1000 + thousandths) * bytes / 1000)),
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in any::<String>()) {
        let _ = (size(&text), duration(&text), rate(&text), text.parse::<Cores>());
        let _ = (text.parse::<Threads>(), text.parse::<Coalesce>(), text.parse::<Byte>());
    }

    #[test]
    fn no_almost_right_text_makes_a_reader_panic(text in "[0-9]{0,25}[.]?[0-9]{0,25}[kKmMgGtTiIbB]{0,3}") {
        let _ = (size(&text), rate(&text), text.parse::<Pause>());
    }
}
