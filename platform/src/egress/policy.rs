//! Egress policy: which addresses that companies name may be called.
//!
//! A service that calls any address it is given can be made to call internal machines (SSRF). So only addresses
//! that are routed globally are called, unless a setting for development says otherwise. The limits: a public address may
//! still be forwarded to an internal one by a router, and any port is allowed. Where that matters, a firewall must refuse
//! as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use super::TransportError;

/// Which addresses may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Public addresses, over TLS.
    Public,
    /// All addresses, and this machine without TLS: for development.
    Anywhere,
}

impl Policy {
    pub fn allows(self, address: IpAddr) -> bool {
        self == Policy::Anywhere || is_public(address)
    }

    /// Parses a URL and checks it as far as possible: the addresses of a name are checked when it is resolved.
    ///
    /// # Errors
    /// If it is malformed or holds a user or a password, or its host is not allowed.
    pub fn url(self, text: &str) -> Result<Url, TransportError> {
        let url = Url::parse(text).map_err(|_| TransportError::BadAddress)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TransportError::BadAddress);
        }
        // The parsed host, not the text: 0x7f.1 has become 127.0.0.1 here.
        let host = url.host_str().ok_or(TransportError::BadAddress)?;
        if self.allows_host(url.scheme(), host) { Ok(url) } else { Err(TransportError::ForbiddenAddress) }
    }

    /// An IPv6 address may be in brackets.
    fn allows_host(self, scheme: &str, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        let literal: Option<IpAddr> = bare.parse().ok();
        match scheme {
            "https" => !host.is_empty() && literal.is_none_or(|it| self.allows(it)),
            "http" => self == Policy::Anywhere && (host == "localhost" || literal.is_some_and(|it| it.is_loopback())),
            _ => false,
        }
    }
}

/// Whether an address is routed globally, by the IANA special-purpose registries (RFC 6890 and its updates).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127, ..) => true,
        // Shared by carriers (RFC 6598).
        (100, 64..=127, _) => true,
        (169, 254, _) | (172, 16..=31, _) | (192, 168, _) => true,
        // Protocol assignments and documentation; the old 6to4 relay.
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 51, 100) | (203, 0, 113) => true,
        // Benchmarks (RFC 2544).
        (198, 18 | 19, _) => true,
        // Multicast, reserved, broadcast.
        (224.., ..) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        // An IPv4 address as IPv6: mapped, or translated (RFC 6052).
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => v4(g, h),
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => v4(g, h),
        // 6to4.
        (0x2002, _) => v4(b, c),
        // Teredo, benchmarks, ORCHID and other assignments; documentation.
        (0x2001, 0..=0x01ff) | (0x2001, 0x0db8) | (0x3fff, 0..=0x0fff) => false,
        // What is left of global unicast. Loopback, local, link-local and multicast addresses are outside it.
        (0x2000..=0x3fff, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    #[test]
    fn globally_routed_addresses_are_public() {
        for it in ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.254"] {
            assert!(public(it), "{it}");
        }
        for it in ["2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"] {
            assert!(public(it), "{it}");
        }
    }

    #[test]
    fn without_tls_only_this_machine_is_called_and_only_by_the_development_policy() {
        let allows = |policy: Policy, url: &str| {
            let (scheme, host) = url.split_once("://").unwrap();
            policy.allows_host(scheme, host)
        };
        for it in ["https://clinica.example", "https://8.8.8.8", "https://[2606:4700::1111]"] {
            assert!(allows(Policy::Public, it) && allows(Policy::Anywhere, it), "{it}");
        }
        for it in ["http://localhost", "http://127.0.0.1", "http://[::1]", "https://10.0.0.1"] {
            assert!(!allows(Policy::Public, it) && allows(Policy::Anywhere, it), "{it}");
        }
        for it in ["http://clinica.example", "http://10.0.0.1", "ftp://127.0.0.1", "https://", "file://localhost"] {
            assert!(!allows(Policy::Public, it) && !allows(Policy::Anywhere, it), "{it}");
        }
    }

    #[test]
    fn private_and_reserved_addresses_are_not_public_in_any_notation() {
        let near = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ];
        for it in near {
            assert!(!public(it), "{it}");
            assert!(Policy::Anywhere.allows(it.parse().unwrap()) && !Policy::Public.allows(it.parse().unwrap()));
        }
    }
}
