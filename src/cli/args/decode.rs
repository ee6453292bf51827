//! The flags that say what is in a datagram.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use ringest_records::decode::Decode;
use ringest_records::decode::rejects::Rejects;
use ringest_records::decode::stage::Formats;

use crate::cli::args::values;
use crate::cli::args::values::ListenArg;
use crate::cli::failure::Failure;

/// Bytes of the file of `--rejects`.
const REJECTS_BYTES_MAX: u64 = 1 << 20;

/// How datagrams are taken apart.
#[derive(Args, Debug)]
pub(crate) struct DecodeArgs {
    /// What a datagram holds: raw (one record), lines, length-prefixed (4 bytes big endian), or json
    /// (objects); for one ADDR alone write it before, as in '*:514=lines'
    #[arg(
        long = "decode", value_name = "[ADDR=]FORMAT", value_parser = decode,
        help_heading = "Records"
    )]
    formats: Vec<DecodeArg>,
    /// Write a sample of what was no record to this file, as JSON lines, 1 MiB at most
    #[arg(long, value_name = "FILE", help_heading = "Records")]
    rejects: Option<PathBuf>,
}

/// A format, for one address or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DecodeArg {
    address: Option<ListenArg>,
    format: Decode,
}

fn decode(text: &str) -> Result<DecodeArg, String> {
    let (address, format) = match text.rsplit_once('=') {
        Some((address, format)) => (Some(values::listen_arg(address)?), format),
        None => (None, text),
    };
    let format = match format {
        "raw" => Decode::Raw,
        "lines" => Decode::Lines,
        "length-prefixed" => Decode::LengthPrefixed,
        "json" => Decode::Json,
        _ => return Err("expected raw, lines, length-prefixed or json".to_owned()),
    };
    Ok(DecodeArg { address, format })
}

impl DecodeArgs {
    /// How the datagrams of each listen address are taken apart, which was typed as `typed[place]`.
    pub(crate) fn formats(
        &self,
        typed: &[ListenArg],
        places: &[usize],
    ) -> Result<Formats, Failure> {
        let formats = self.check(typed, places)?;
        let create = |path: &PathBuf| {
            Rejects::create(path, REJECTS_BYTES_MAX).map_err(|error| {
                let next = match error.raw_os_error() {
                    Some(libc::ENXIO) => "; nobody reads this pipe: start its reader first",
                    _ => "",
                };
                Failure::Failed(format!("cannot write {}: {error}{next}", path.display()))
            })
        };
        let rejects = self.rejects.as_ref().map(create).transpose()?;
        Ok(Formats::new(formats, rejects.map(Arc::new)))
    }

    /// The format of each listen address; no file is touched.
    pub(crate) fn check(
        &self,
        typed: &[ListenArg],
        places: &[usize],
    ) -> Result<Vec<Decode>, Failure> {
        for arg in self.formats.iter().filter_map(|arg| arg.address.as_ref()) {
            if !typed.contains(arg) {
                return Err(Failure::Usage(
                    "--decode names an address that is not listened on; write it as ADDR is written"
                        .to_owned(),
                ));
            }
        }
        let is_again = |(place, arg): (usize, &DecodeArg)| {
            self.formats.iter().take(place).any(|before| before.address == arg.address)
        };
        if self.formats.iter().enumerate().any(is_again) {
            return Err(Failure::Usage(
                "--decode says twice what the same datagrams hold; give one FORMAT for all, and one \
                 ADDR=FORMAT for an ADDR that differs"
                    .to_owned(),
            ));
        }
        let format = |place: &usize| {
            // One for the address alone counts before one for all.
            let of = |address: Option<&ListenArg>| {
                self.formats.iter().find(|arg| arg.address.as_ref() == address)
            };
            let found =
                typed.get(*place).and_then(|address| of(Some(address))).or_else(|| of(None));
            found.map_or(Decode::Raw, |arg| arg.format)
        };
        let formats: Vec<_> = places.iter().map(format).collect();
        if self.rejects.is_some() && formats.iter().all(|format| *format == Decode::Raw) {
            return Err(Failure::Usage(
                "--rejects: a raw datagram is never refused; add --decode".to_owned(),
            ));
        }
        Ok(formats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_for_one_address_or_for_all() {
        let one = decode("*:514=lines").unwrap();
        assert_eq!((one.format, one.address.is_some()), (Decode::Lines, true));
        assert_eq!(decode("json").unwrap(), DecodeArg { address: None, format: Decode::Json });
        for text in ["", "=lines", "xml", "*:514=", "x=lines"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_that_is_not_listened_on_is_wrong_usage() {
        let typed = [values::listen_arg("*:514").unwrap(), values::listen_arg("[::1]:9").unwrap()];
        let args = |formats: &[&str]| DecodeArgs {
            formats: formats.iter().map(|text| decode(text).unwrap()).collect(),
            rejects: None,
        };
        assert!(args(&["lines", "[::1]:9=json"]).formats(&typed, &[0, 1, 1]).is_ok());
        assert!(args(&["*:515=json"]).formats(&typed, &[0, 1]).is_err());
        for twice in [["raw", "lines"], ["json", "json"], ["*:514=json", "*:514=lines"]] {
            let refused = args(&twice).formats(&typed, &[0, 1]).unwrap_err();
            assert!(
                matches!(&refused, Failure::Usage(text) if text.contains("twice")),
                "{refused}"
            );
        }
        assert!(args(&[]).formats(&typed, &[0]).unwrap().are_raw());
    }
}
