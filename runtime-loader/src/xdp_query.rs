//! Which XDP program an interface has, whoever attached it: asked over rtnetlink.
//!
//! Messages and attributes are those of `include/uapi/linux/rtnetlink.h` and `if_link.h`.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::sys;

/// `RTM_GETLINK` with `NLM_F_REQUEST`.
const GET_LINK: u16 = 18;
const REQUEST: u16 = 1;
/// `RTM_NEWLINK`, the answer.
const NEW_LINK: u16 = 16;
/// Head of every message, and of a message about an interface.
const HEAD: usize = 16;
const INTERFACE: usize = 16;
/// `IFLA_XDP`, `IFLA_XDP_PROG_ID`, and the two where native and generic programs are told apart.
const XDP: u16 = 43;
const PROGRAM: [u16; 3] = [4, 5, 6];
/// Bits of an attribute's type that say how it is built.
const KIND: u16 = 0x3fff;

/// Kernel-wide number of the XDP program on an interface of this network namespace; `None` for none.
///
/// # Errors
/// What the kernel answers.
pub(crate) fn program(index: u32) -> io::Result<Option<u32>> {
    // The standard library has no such socket, but one of its own kinds reads and writes any stream.
    let mut socket = UnixStream::from(sys::route_socket()?);
    socket.write_all(&request(index))?;
    let mut answer = vec![0; 64 << 10];
    let length = socket.read(&mut answer)?;
    Ok(answer.get(..length).and_then(parse))
}

fn request(index: u32) -> Vec<u8> {
    let mut message = ((HEAD + INTERFACE) as u32).to_ne_bytes().to_vec();
    message.extend(GET_LINK.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Sequence and sender, then family, padding and kind of device.
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.resize(HEAD + INTERFACE, 0);
    message
}

fn parse(message: &[u8]) -> Option<u32> {
    let kind = message.get(4..)?.first_chunk().copied().map(u16::from_ne_bytes)?;
    if kind != NEW_LINK {
        return None;
    }
    let xdp = attribute(message.get(HEAD + INTERFACE..)?, XDP)?;
    let numbers = PROGRAM.iter().filter_map(|kind| attribute(xdp, *kind)?.first_chunk().copied());
    numbers.map(u32::from_ne_bytes).find(|number| *number != 0)
}

/// The content of the first attribute of a kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, rest) = attributes.split_first_chunk()?;
        let kind = rest.first_chunk().copied().map(u16::from_ne_bytes)?;
        let length = usize::from(u16::from_ne_bytes(*length));
        if kind & KIND == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::{HEAD, INTERFACE, parse, request};

    /// An answer with an attribute that is passed over, then XDP with a mode and this program.
    fn answer(program: u32) -> Vec<u8> {
        let mut message = request(3);
        message.splice(4..6, 16_u16.to_ne_bytes());
        message.extend([6, 0, 3, 0, b'a', 0, 0, 0]);
        message.extend([20, 0, 43, 0x80, 5, 0, 2, 0, 1, 0, 0, 0, 8, 0, 4, 0]);
        message.extend(program.to_ne_bytes());
        message
    }

    #[test]
    fn programs_are_found() {
        assert_eq!(parse(&answer(77)), Some(77));
        assert_eq!(parse(&answer(0)), None);
        let whole = answer(77);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
        assert_eq!(whole.len(), HEAD + INTERFACE + 28);
    }
}
