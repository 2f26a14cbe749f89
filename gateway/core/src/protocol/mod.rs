//! The wire: packets, Acks, and the parts they are made of.

pub mod access;
pub mod ack;
pub mod answer;
pub mod cdn_loop;
pub mod chunked;
pub mod client;
pub mod field;
pub mod fields;
pub mod forwarded_host;
pub mod framing;
pub mod head;
pub mod headers;
pub mod host;
pub mod hresult;
pub mod ids;
pub mod keep_alive;
pub mod latin1;
pub mod login;
pub mod network;
pub mod packet;
pub mod passage;
pub mod range;
pub mod reply;
pub mod reserved;
pub mod speaker;
pub mod trace_context;

pub use ack::{Ack, read_ack};
pub use fields::Fields;
pub use headers::Field;
pub use hresult::HResult;
pub use ids::{SessionId, SessionKey};
pub use packet::{ChunkedMode, PacketError, PacketType, RequestPacket, read_request};
pub use range::ContentRange;
