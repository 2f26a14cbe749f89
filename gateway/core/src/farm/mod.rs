//! The backends behind one destination: who they are and what may be asked of them.

pub mod addresses;
pub mod backend;
pub mod folders;
pub mod health;
pub mod view;

pub use addresses::Addresses;
pub use backend::{AdminState, Announce, Backend, BackendId, Health};
pub use folders::{
    Asked, Barred, Change, Create, Directory, Folder, FolderRules, Folders, InARow, Ping, Reach,
    Sign, Verdict,
};
pub use health::{Answer, Condition, PacketSource, ProbeFailure, Reason, Rules, Standing, Tracker};
pub use view::FarmView;
