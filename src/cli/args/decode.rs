//! The flags `--decode` and `--rejects`: the format of datagrams.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use ringest_engine::control::listen::ListenTarget;
use ringest_records::decode::formats::{Decode, UnknownFormat};
use ringest_records::decode::rejects::Rejects;
use ringest_records::decode::stage::Formats;

use crate::cli::failure::Failure;

/// Most bytes of the file of `--rejects`.
const REJECTS_BYTES_MAX: u64 = 1 << 20;

/// `--decode` and `--rejects`.
#[derive(Args, Debug)]
pub(crate) struct DecodeArgs {
    #[arg(
        long = "decode", value_name = "[ADDR=]FORMAT", value_parser = decode,
        help_heading = "Records", help = decode_help()
    )]
    formats: Vec<DecodeArg>,
    /// Write a sample of what was no record to this file, as JSON lines, 1 MiB at most
    #[arg(long, value_name = "FILE", help_heading = "Records")]
    rejects: Option<PathBuf>,
}

/// A format, for one address or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DecodeArg {
    address: Option<ListenTarget>,
    format: Decode,
}

fn decode_help() -> String {
    let formats = Decode::help();
    format!(
        "What a datagram holds: {formats}; for one ADDR alone write it before, as in '*:514=lines'"
    )
}

fn decode(text: &str) -> Result<DecodeArg, String> {
    let (address, format) = match text.rsplit_once('=') {
        Some((address, format)) => (Some(address.parse()?), format),
        None => (None, text),
    };
    let format = format.parse().map_err(|unknown: UnknownFormat| unknown.to_string())?;
    Ok(DecodeArg { address, format })
}

impl DecodeArgs {
    /// Returns the format of each listen address, which was typed as `typed[place]`, and opens the file of
    /// `--rejects`.
    pub(crate) fn formats(
        &self,
        typed: &[ListenTarget],
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

    /// Returns the format of each listen address. Touches no file.
    pub(crate) fn check(
        &self,
        typed: &[ListenTarget],
        places: &[usize],
    ) -> Result<Vec<Decode>, Failure> {
        for arg in self.formats.iter().filter_map(|arg| arg.address.as_ref()) {
            if !typed.contains(arg) {
                return Err(Failure::Usage(
                    "--decode names an address that is not among the listen addresses; write it exactly as ADDR is written"
                        .to_owned(),
                ));
            }
        }
        let is_again = |(place, arg): (usize, &DecodeArg)| {
            self.formats.iter().take(place).any(|before| before.address == arg.address)
        };
        if self.formats.iter().enumerate().any(is_again) {
            return Err(Failure::Usage(
                "--decode is given twice for the same datagrams; give one FORMAT for all, and one \
                 ADDR=FORMAT for each ADDR that differs"
                    .to_owned(),
            ));
        }
        let format = |place: &usize| {
            // A format for this address counts before a format for all.
            let of = |address: Option<&ListenTarget>| {
                self.formats.iter().find(|arg| arg.address.as_ref() == address)
            };
            let found =
                typed.get(*place).and_then(|address| of(Some(address))).or_else(|| of(None));
            found.map_or_else(Decode::default, |arg| arg.format)
        };
        let formats: Vec<_> = places.iter().map(format).collect();
        if self.rejects.is_some() && formats.iter().all(|format| format.is_raw()) {
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
        assert_eq!((one.format, one.address.is_some()), ("lines".parse().unwrap(), true));
        assert_eq!(
            decode("json").unwrap(),
            DecodeArg { address: None, format: "json".parse().unwrap() }
        );
        for text in ["", "=lines", "xml", "*:514=", "x=lines"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_that_is_not_listened_on_is_wrong_usage() {
        let typed: [ListenTarget; 2] = ["*:514".parse().unwrap(), "[::1]:9".parse().unwrap()];
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
