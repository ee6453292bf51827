//! Parsers for the files of /proc and /sys: pure functions from text to a value. No text makes one panic. A field that
//! is not there is `None`, because kernels differ in the fields they write.

/// Files of the network stack.
mod net;
/// Numbers, and lists and masks of cores.
mod numbers;
/// Files of the rest of the kernel.
mod system;
/// The parsers on files of several kernels.
#[cfg(test)]
mod tests;

pub(crate) use crate::parse::net::{
    Softnet, Table, conntrack_udp, hex_columns, snmp, snmp6, sockstat_udp_pages, softnet,
};
pub(crate) use crate::parse::numbers::{core_list, core_mask, number, numbers};
pub(crate) use crate::parse::system::{
    Irq, capabilities, chosen, field, interrupts, limit, meminfo_bytes, release, unit,
};
pub(crate) use ringest_base::host::holders::{UdpSocket, udp_sockets};
