//! Hosts and prefixes as the lists hold them: 16-byte addresses, IPv4 mapped into IPv6.

use std::net::IpAddr;

/// Bits of the prefix `::ffff:0:0/96` that IPv4 addresses are mapped under.
const MAPPED_BITS: u32 = 96;

/// An address as it stands in `nn_blocked`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host(pub [u8; 16]);

/// A prefix as it stands in `nn_allowed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// 0 to 128, counted in the mapped form.
    pub bits: u32,
    pub address: Host,
}

/// A host whose packets are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub host: Host,
    /// In the time of packets.
    pub until: u64,
    /// Whether that time is over.
    pub expired: bool,
}

impl Block {
    /// The end of a block that has none.
    pub const FOR_EVER: u64 = u64::MAX;
}

/// Both lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostLists {
    pub blocked: Vec<Block>,
    pub allowed: Vec<Prefix>,
}

/// Text that is no address or prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("`{text}` is not an IPv4 or IPv6 address")]
    Address { text: String },
    #[error("`{text}` is not a prefix: `/{length}` is no number from 0 to {most}")]
    Length { text: String, length: String, most: u32 },
}

impl Host {
    /// Reads an IPv4 or IPv6 address.
    ///
    /// # Errors
    /// The text is no address; names are not looked up.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        address(text).map(Self::from)
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        IpAddr::from(self.0).to_canonical().fmt(formatter)
    }
}

impl Prefix {
    /// Reads an address, which is a prefix of full length, or `ADDRESS/LENGTH`. Bits behind the prefix are
    /// cleared.
    ///
    /// # Errors
    /// The text is neither.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let (host, length) = match text.split_once('/') {
            Some((host, length)) => (host, Some(length)),
            None => (text, None),
        };
        let host = address(host)?;
        let (most, before) = if host.is_ipv4() { (32, MAPPED_BITS) } else { (128, 0) };
        let bits = match length {
            None => most,
            Some(length) => length.parse().ok().filter(|bits| *bits <= most).ok_or_else(|| {
                HostError::Length { text: text.to_owned(), length: length.to_owned(), most }
            })?,
        };
        let bits = before + bits;
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let address = u128::from_be_bytes(Host::from(host).0) & mask;
        Ok(Self { bits, address: Host(address.to_be_bytes()) })
    }

    /// The only host of a prefix of full length.
    #[must_use]
    pub fn host(&self) -> Option<Host> {
        (self.bits == 128).then_some(self.address)
    }

    /// Whether a host has this prefix.
    #[must_use]
    pub fn contains(&self, host: Host) -> bool {
        let differing = u128::from_be_bytes(self.address.0) ^ u128::from_be_bytes(host.0);
        differing.checked_shr(128_u32.saturating_sub(self.bits)).unwrap_or(0) == 0
    }

    /// The key of the prefix trie: length, then address.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut key = self.bits.to_ne_bytes().to_vec();
        key.extend(self.address.0);
        key
    }

    /// Reads a key of the prefix trie.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (bits, address) = key.split_first_chunk()?;
        let address = Host(address.try_into().ok()?);
        Some(Self { bits: u32::from_ne_bytes(*bits), address })
    }
}

impl From<Host> for Prefix {
    fn from(address: Host) -> Self {
        Self { bits: 128, address }
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = IpAddr::from(self.address.0).to_canonical();
        let bits = if shown.is_ipv4() { self.bits.saturating_sub(MAPPED_BITS) } else { self.bits };
        write!(formatter, "{shown}/{bits}")
    }
}

fn address(text: &str) -> Result<IpAddr, HostError> {
    text.parse().map_err(|_| HostError::Address { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Host, HostError, Prefix};

    #[test]
    fn ipv4_is_mapped() {
        let host = Host::parse("10.1.2.3").unwrap();
        assert_eq!(host.0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3]);
        assert_eq!(host.to_string(), "10.1.2.3");
        assert_eq!(Host::parse("::ffff:10.1.2.3").unwrap(), host);
    }

    #[test]
    fn prefixes_lose_their_host_bits() {
        let prefix = Prefix::parse("10.1.2.3/8").unwrap();
        assert_eq!((prefix.bits, prefix.to_string()), (104, "10.0.0.0/8".to_owned()));
        assert_eq!(Prefix::parse("2001:db8::1/32").unwrap().to_string(), "2001:db8::/32");
        assert_eq!(Prefix::parse("::/0").unwrap().bits, 0);
        assert_eq!(Prefix::parse("::1").unwrap().bits, 128);
        assert_eq!(Prefix::from_key(&prefix.key()), Some(prefix));
        let host = |text| Host::parse(text).unwrap();
        assert!(prefix.contains(host("10.255.0.1")) && !prefix.contains(host("11.0.0.1")));
        assert!(Prefix::parse("::/0").unwrap().contains(host("10.0.0.1")));
        let one = Prefix::parse("10.0.0.7").unwrap();
        assert_eq!((one.host(), prefix.host()), (Some(host("10.0.0.7")), None));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "localhost", "10.1.2", "10.1.2.3/33", "::/129", "10.0.0.0/x"] {
            assert!(Prefix::parse(text).is_err(), "{text}");
        }
        assert!(matches!(Host::parse("10.1.2.3/8"), Err(HostError::Address { .. })));
    }
}
