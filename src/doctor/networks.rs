//! The networks that this host is in, from the addresses of its interfaces.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

/// An address of an interface, with the prefix length of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) device: String,
    pub(crate) ip: IpAddr,
    pub(crate) prefix: u32,
    /// Whether the interface is up and not a loopback.
    pub(crate) reached: bool,
}

impl Network {
    fn contains(&self, ip: IpAddr) -> bool {
        let (bits, width) = value(self.ip);
        let (other, other_width) = value(ip);
        let prefix = self.prefix.min(width);
        // A shift by the whole width, which no bit survives, is refused as an overflow.
        let differ = (bits ^ other).checked_shr(width - prefix).unwrap_or(0);
        width == other_width && differ == 0
    }
}

/// Returns an address as a number, and its width in bits.
fn value(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    }
}

/// Returns the networks of this host; none if getifaddrs(3) fails.
pub(crate) fn all() -> Vec<Network> {
    let interfaces = getifaddrs().into_iter().flatten();
    let network = |interface: nix::ifaddrs::InterfaceAddress| {
        let ip = address_of(interface.address.as_ref()?)?;
        let mask = interface.netmask.as_ref().and_then(address_of);
        // Without a mask it is the address alone.
        let prefix = mask.map_or_else(|| value(ip).1, |mask| value(mask).0.count_ones());
        let flags = interface.flags;
        let reached =
            flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK);
        Some(Network { device: interface.interface_name, ip, prefix, reached })
    };
    interfaces.filter_map(network).collect()
}

fn address_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let four = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
    four.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
}

/// Returns the interface in whose network the address is, the narrowest network if there are several.
pub(crate) fn device_for(ip: IpAddr, networks: &[Network]) -> Option<&str> {
    let theirs = networks.iter().filter(|network| network.reached && network.contains(ip));
    theirs.max_by_key(|network| network.prefix).map(|network| network.device.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(device: &str, ip: &str, prefix: u32) -> Network {
        Network { device: device.into(), ip: ip.parse().unwrap(), prefix, reached: true }
    }

    #[test]
    fn an_address_goes_to_the_interface_of_its_network() {
        let mut networks = [
            network("wlan0", "192.168.1.5", 24),
            network("eth0", "10.0.0.1", 8),
            network("eth1", "10.99.0.1", 24),
            network("eth1", "2001:db8::1", 64),
            network("tun0", "198.51.100.1", 32),
        ];
        for (ip, device) in [
            ("10.99.0.77", Some("eth1")),
            ("10.1.0.77", Some("eth0")),
            ("192.168.1.9", Some("wlan0")),
            ("2001:db8::77", Some("eth1")),
            ("2001:db8:1::77", None),
            ("198.51.100.2", None),
            ("203.0.113.1", None),
        ] {
            assert_eq!(device_for(ip.parse().unwrap(), &networks), device, "{ip}");
        }
        networks[2].reached = false;
        assert_eq!(device_for("10.99.0.77".parse().unwrap(), &networks), Some("eth0"));
        let all = [network("ppp0", "0.0.0.0", 0)];
        assert_eq!(device_for("203.0.113.1".parse().unwrap(), &all), Some("ppp0"));
        assert_eq!(device_for("::1".parse().unwrap(), &all), None);
    }

    #[test]
    fn this_host_has_a_loopback() {
        let here = all();
        let loopback = here.iter().find(|network| network.ip.is_loopback() && network.ip.is_ipv4());
        // A namespace whose interfaces are all down has none.
        assert!(loopback.is_none_or(|network| network.prefix == 8 && !network.reached), "{here:?}");
    }
}
