//! What is asked, so that no answer of any server can put a byte into a file.

use crate::protocol::{ContentRange, PacketType, RequestPacket};

/// The largest file that IIS takes (MC-BUP, `BITSMaximumUploadSize`): no upload ends behind it, and
/// no server refuses a total for being larger than it takes.
const LARGEST: u64 = 1_844_674_407_370_955;

/// A Fragment of one byte that its server refuses if it has the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question {
    range: ContentRange,
    form: Form,
    goes_on: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    /// Behind the end of the file, and of another size. Two rules refuse it, one is enough: it
    /// leaves a hole (MC-BUP 2.2.6: 416 with the offset that is wanted), and its total is not the
    /// session's (2.2.1.2: 400). A server may take the size for that of a session without a byte.
    Beyond,
    /// The last byte of the file. It leaves a hole, and its total is the session's.
    Last,
    /// The same, announced with `Expect: 100-continue` and never sent: not a hole for a session
    /// that has all before it.
    LastUnsent,
}

impl Question {
    /// The question for a packet of a lost session; `None` if its file is so large that no range
    /// is left to ask with.
    ///
    /// The range is a legal one, since a server may look at that before it looks the session up,
    /// and would tell the owner and a stranger alike that the packet is bad.
    ///
    /// The last byte is asked with only where the session cannot want it: its client sends its
    /// first Fragment `0-L/T`, so the server has `L+1` bytes at most, and `L+1 < T-1`. Elsewhere the
    /// byte could be the one that is wanted, and lies beyond the end therefore.
    ///
    /// With `shared_farm`, another gateway may have opened the session just now, so one without a
    /// byte is no accident. Then a first Fragment that reaches the end of the file is asked for
    /// with the last byte too, but the byte is not sent.
    pub fn of(packet: &RequestPacket, shared_farm: bool) -> Option<Self> {
        let Some(range) = packet.range() else {
            // The size of the file is not known. Nothing follows a Cancel-Session that could be
            // refused for the size that was named; a Close-Session might throw the upload away.
            let cancel = packet.packet_type() == PacketType::CancelSession;
            return Self::beyond(LARGEST - 1, shared_farm && cancel);
        };
        let total = range.total();
        if range.first() > 0 || total == 0 {
            return Self::beyond(total.checked_add(1)?, false);
        }
        // `end` is L+1.
        let form = match range.end() < total - 1 {
            true => Form::Last,
            false if shared_farm => Form::LastUnsent,
            false => return Self::beyond(total.checked_add(1)?, false),
        };
        let range = ContentRange::new(total - 1, total - 1, total).ok()?;
        Some(Self { range, form, goes_on: true })
    }

    fn beyond(first: u64, goes_on: bool) -> Option<Self> {
        let range = ContentRange::new(first, first, first.checked_add(1)?).ok()?;
        Some(Self { range, form: Form::Beyond, goes_on })
    }

    pub fn range(self) -> ContentRange {
        self.range
    }

    /// Whether the byte is sent. If not, `Expect: 100-continue` announces it, and the connection
    /// is closed without it.
    pub fn sends_its_byte(self) -> bool {
        self.form != Form::LastUnsent
    }

    /// Whether the packet may go on to a server that has the session and not a byte of it: the
    /// question has told that server nothing which the packet contradicts.
    pub fn lets_newborns_go_on(self) -> bool {
        self.goes_on
    }
}

/// A request-target in the same folder that nobody uses: `name` in place of the last segment, with
/// its extension and query kept, because servers choose by these who answers.
///
/// # Shape
/// `target` and the result: path and query, without scheme and authority.
pub fn elsewhere(target: &[u8], name: &str) -> Vec<u8> {
    let end = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let file = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, file) = path.split_at(file);
    let extension = file.iter().rposition(|&byte| byte == b'.').map_or(&[][..], |dot| &file[dot..]);
    [folder, name.as_bytes(), extension, query].concat()
}
