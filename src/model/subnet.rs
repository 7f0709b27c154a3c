//! IPv4 subnets in CIDR notation.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;

/// An IPv4 subnet: the network's address and the length of its prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Subnet {
    address: u32,
    prefix: u8,
}

impl Subnet {
    /// A subnet; bits outside the prefix are cleared.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self { address: u32::from(address) & mask(prefix), prefix }
    }

    /// Parses a subnet such as `10.1.2.0/24`.
    ///
    /// # Errors
    /// A sentence saying what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hint = || format!("`{text}` is not an IPv4 subnet; write one as in \"10.20.30.0/24\"");
        let (address, prefix) = text.split_once('/').ok_or_else(hint)?;
        let address: Ipv4Addr = address.parse().map_err(|_| hint())?;
        let prefix: u8 = prefix.parse().map_err(|_| hint())?;
        if !(8..=30).contains(&prefix) {
            return Err("a subnet's prefix is between /8 and /30".into());
        }
        let subnet = Self::new(address, prefix);
        if subnet.address != u32::from(address) {
            return Err(format!("`{text}` has bits set outside its prefix; write \"{subnet}\""));
        }
        Ok(subnet)
    }

    /// The length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The `n`th address, counted from the network's own.
    pub fn host(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.address.wrapping_add(n))
    }

    /// How many addresses hosts can have (without the network's and the broadcast address).
    pub fn hosts(&self) -> u32 {
        (!mask(self.prefix)).saturating_sub(1)
    }

    /// Whether an address is in the subnet.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.address
    }

    /// Whether two subnets share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        self.address & mask(prefix) == other.address & mask(prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.address), self.prefix)
    }
}

impl Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
