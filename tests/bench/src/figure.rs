//! What is measured of one peer in one round.

use std::collections::BTreeMap;

pub type Figures = BTreeMap<Figure, f64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    CpuPerPacketUs,
    CpuPerSessionUs,
    CpuPerMibUs,
    PacketsPerSecond,
    SessionsPerSecond,
    P50Us,
    P99Us,
    /// Over the same without a proxy, in the same round.
    AddedP50Us,
    AddedP99Us,
    CreateP50Us,
    CreateP99Us,
    CloseP50Us,
    CloseP99Us,
    /// A write of one page and its sync, on the disk of the stores.
    CommitP50Us,
    CommitP99Us,
    /// The p99 of each by that of a commit.
    CreateToCommit,
    CloseToCommit,
    /// Over what the processes held before their first client, like all memory.
    PeakMib,
    KibPerConnection,
    BytesPerPin,
    CreatesPerSecond,
    CpuPerCreateUs,
    /// Of a Fragment of 1 KiB, among all sessions and among a thousandth of them.
    VisitUs,
    VisitFewUs,
    VisitRatio,
    LoadSeconds,
}

impl Figure {
    /// The name in the JSON.
    pub fn key(self) -> String {
        let name = serde_json::to_value(self).expect("a name");
        name.as_str().expect("a name").to_owned()
    }

    /// The head of its column.
    pub fn title(self) -> &'static str {
        match self {
            Self::CpuPerPacketUs => "processor time per packet, µs",
            Self::CpuPerSessionUs => "processor time per session, µs",
            Self::CpuPerMibUs => "processor time per MiB, µs",
            Self::PacketsPerSecond => "packets per second",
            Self::SessionsPerSecond => "sessions per second",
            Self::P50Us => "p50, µs",
            Self::P99Us => "p99, µs",
            Self::AddedP50Us => "added p50, µs",
            Self::AddedP99Us => "added p99, µs",
            Self::CreateP50Us => "Create p50, µs",
            Self::CreateP99Us => "Create p99, µs",
            Self::CloseP50Us => "Close p50, µs",
            Self::CloseP99Us => "Close p99, µs",
            Self::CommitP50Us => "bare commit p50, µs",
            Self::CommitP99Us => "bare commit p99, µs",
            Self::CreateToCommit => "Create p99, bare commit = 1.00",
            Self::CloseToCommit => "Close p99, bare commit = 1.00",
            Self::PeakMib => "peak over idle, MiB",
            Self::KibPerConnection => "memory per connection, KiB",
            Self::BytesPerPin => "memory per pin, bytes",
            Self::CreatesPerSecond => "creates per second",
            Self::CpuPerCreateUs => "processor time per create, µs",
            Self::VisitUs => "processor time per packet among all, µs",
            Self::VisitFewUs => "among a thousandth, µs",
            Self::VisitRatio => "among all, a thousandth = 1.00",
            Self::LoadSeconds => "start with all pins, s",
        }
    }
}
