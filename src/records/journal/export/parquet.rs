//! Export to Apache Parquet, compressed with zstd, for DuckDB, pandas, Spark and the like.
//!
//! Rows are collected by column and written one row group at a time, so memory is bounded by one group.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::basic::ZstdLevel;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::journal::export::exporter::Exporter;
use crate::journal::format::Record;

/// The columns, in Parquet's schema language.
const SCHEMA: &str = "message journal {
    required int64 received (TIMESTAMP(NANOS, true));
    required binary peer_ip (STRING);
    required int32 peer_port (INTEGER(16, false));
    required int32 listener (INTEGER(16, false));
    required int32 length (INTEGER(32, false));
    required binary payload;
}";
/// Rows of a group at most. Fewer: compresses worse and reads slower. More: takes more memory.
const GROUP_ROWS: usize = 256 << 10;
/// Payload bytes of a group at most.
const GROUP_BYTES: usize = 64 << 20;

/// Rows that are not written yet, by column.
#[derive(Debug, Default)]
struct Group {
    received: Vec<i64>,
    peer_ip: Vec<ByteArray>,
    peer_port: Vec<i32>,
    listener: Vec<i32>,
    length: Vec<i32>,
    payload: Vec<ByteArray>,
    payload_bytes: usize,
}

/// Exports records to Parquet.
pub struct Parquet<W: Write + Send> {
    file: SerializedFileWriter<W>,
    group: Group,
}

impl<W: Write + Send> std::fmt::Debug for Parquet<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parquet").field("rows", &self.group.received.len()).finish_non_exhaustive()
    }
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        error => io::Error::other(error),
    }
}

impl<W: Write + Send> Parquet<W> {
    /// Starts the export to `out`.
    ///
    /// # Errors
    /// Writing to `out` failed.
    pub fn new(out: W) -> io::Result<Self> {
        let schema = parse_message_type(SCHEMA).map_err(failed)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("ringest ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties));
        Ok(Self { file: file.map_err(failed)?, group: Group::default() })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let group = std::mem::take(&mut self.group);
        if group.received.is_empty() {
            return Ok(());
        }
        let mut rows = self.file.next_row_group()?;
        column::<Int64Type, W>(&mut rows, &group.received)?;
        column::<ByteArrayType, W>(&mut rows, &group.peer_ip)?;
        column::<Int32Type, W>(&mut rows, &group.peer_port)?;
        column::<Int32Type, W>(&mut rows, &group.listener)?;
        column::<Int32Type, W>(&mut rows, &group.length)?;
        column::<ByteArrayType, W>(&mut rows, &group.payload)?;
        rows.close()?;
        Ok(())
    }
}

/// Writes the next column of a group.
fn column<T: DataType, W: Write + Send>(
    rows: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    if let Some(mut column) = rows.next_column()? {
        column.typed::<T>().write_batch(values, None, None)?;
        column.close()?;
    }
    Ok(())
}

impl<W: Write + Send> Exporter for Parquet<W> {
    fn add(&mut self, record: &Record<'_>) -> io::Result<bool> {
        let group = &mut self.group;
        // Times after the year 2262 do not fit: they become the largest value.
        group.received.push(i64::try_from(record.received_unix_ns).unwrap_or(i64::MAX));
        group.peer_ip.push(ByteArray::from(record.peer.ip().to_string().into_bytes()));
        group.peer_port.push(record.peer.port().into());
        group.listener.push(record.listener.into());
        group.length.push(i32::try_from(record.payload.len()).unwrap_or(i32::MAX));
        group.payload.push(ByteArray::from(record.payload.to_vec()));
        group.payload_bytes += record.payload.len();
        if group.received.len() >= GROUP_ROWS || group.payload_bytes >= GROUP_BYTES {
            self.write_group().map_err(failed)?;
        }
        Ok(true)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write_group().map_err(failed)?;
        self.file.finish().map_err(failed)?;
        self.file.flush()
    }
}
