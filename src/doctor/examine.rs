//! The examination of a host: every check in turn.
//!
//! The checks read files through `files::Files` and parse the text with the pure functions of `parse`, so that a tree of
//! fixtures can stand in for a host. Facts that are in no file are found by trying (a ring, a bind) or by asking a
//! program or driver (nft, ethtool). Nothing is changed.
//!
//! A **failure** makes receiving impossible. A **warning** loses datagrams under load, or shows that some were lost.
//! **Info** is a fact to know. **Unknown** could not be read, and says why.

use crate::check::{Area, Check};
use crate::files::Files;
use crate::wanted::Wanted;

/// Examines this host. Nothing is changed; a socket is bound and closed again to see whether that is possible.
#[must_use]
pub fn examine(wanted: &Wanted) -> Vec<Check> {
    let files = Files::host();
    let wanted = &wanted.here(crate::address::has_ipv6(&files));
    let mut checks = Vec::new();
    let mut room = |area, found: Vec<Check>| {
        checks.extend(found.into_iter().map(|check| check.in_area(area)));
    };
    room(Area::Address, crate::address::checks(&files, wanted));
    room(Area::Firewall, crate::firewall::rules::checks(&files, wanted));
    room(Area::Firewall, crate::firewall::conntrack::checks(&files, wanted));
    room(Area::Kernel, crate::kernel::checks(&files));
    room(Area::Limits, crate::limits::checks(&files, wanted));
    room(Area::Buffers, crate::buffers::checks(&files, wanted));
    room(Area::Lost, crate::counters::checks(&files, wanted));
    let interfaces = crate::nic::interface::Interface::all(&files, wanted);
    room(Area::Interfaces, crate::nic::interfaces::checks(&files, &interfaces, wanted));
    room(Area::Cpu, crate::cpu::checks(&files, &interfaces, wanted));
    room(Area::Cpu, crate::memory::checks(&files));
    checks
}
