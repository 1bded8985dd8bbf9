//! Addresses of buses (D-Bus specification, Server Addresses), as far as they name unix sockets.

/// A unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Socket {
    /// By its path.
    Path(Vec<u8>),
    /// By a name of the abstract namespace.
    Abstract(Vec<u8>),
}

/// The sockets that an address names, in the order in which they are to be tried; others that it
/// names (`tcp:`, `unixexec:`) are passed over.
pub(super) fn sockets(address: &str) -> Vec<Socket> {
    address.split(';').filter_map(socket).collect()
}

fn socket(address: &str) -> Option<Socket> {
    let pairs = address.strip_prefix("unix:")?;
    pairs.split(',').find_map(|pair| match pair.split_once('=')? {
        ("path", value) => Some(Socket::Path(unescaped(value)?)),
        ("abstract", value) => Some(Socket::Abstract(unescaped(value)?)),
        _ => None,
    })
}

fn unescaped(value: &str) -> Option<Vec<u8>> {
    let mut parts = value.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    (!bytes.is_empty() && !bytes.contains(&0)).then_some(bytes)
}

/// The address of a socket with this path.
pub(crate) fn address_of(path: &str) -> String {
    let mut address = "unix:path=".to_owned();
    for byte in path.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'/' | b'.' | b'*' | b'\\' => {
                address.push(char::from(byte));
            }
            other => address.push_str(&format!("%{other:02x}")),
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_sockets_in_their_order() {
        let found = sockets("tcp:host=x;unix:guid=1,path=/run/user/1000/bus;unix:abstract=/tmp/a");
        let path = Socket::Path(b"/run/user/1000/bus".to_vec());
        assert_eq!(found, [path, Socket::Abstract(b"/tmp/a".to_vec())]);
        for none in ["", "unix:", "unix:path=", "unix:tmpdir=/tmp", "/run/bus", "unix:path=%0"] {
            assert_eq!(sockets(none), [], "{none}");
        }
        assert_eq!(sockets("unix:path=a%00b"), []);
    }

    #[test]
    fn what_an_address_cannot_hold_is_escaped() {
        let address = address_of("/run/a b;c,d=é");
        assert_eq!(address, "unix:path=/run/a%20b%3bc%2cd%3d%c3%a9");
        assert_eq!(sockets(&address), [Socket::Path("/run/a b;c,d=é".into())]);
    }
}
