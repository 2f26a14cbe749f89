//! Shards of unequal size, so that they do not all grow at the same moment.
//!
//! The hazard: each shard has a table whose size is a power of two, and which doubles when it is
//! full to seven eighths. Shards of equal shares all double together, and right after that the whole
//! map is less than half full. With shares between one and two, some shard doubles at any number
//! of sessions, and of all places 58 percent are taken at the least.
//!
//! The hash is keyed, because who names a session must not be able to choose its place. `foldhash`
//! takes a fraction of the time of the standard library's SipHash, and every packet hashes its id
//! more than once. It resists who cannot see hashes, which nobody outside this process can. Its seeds
//! come from the operating system here: its own are addresses and the time.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, SeedableRandomState};

/// More shards than cores, so that a sweep of one shard delays few requests.
pub(super) const SHARDS: usize = 128;

/// Where dashmap looks for the number of a shard: below the seven bits that hashbrown keeps.
const SHARD_AT: u32 = u64::BITS - 7 - SHARDS.ilog2();

/// What the number of a shard is made of: so many bits from here on. Those below choose the place
/// in the shard.
const DRAWN_AT: u32 = 32;
const DRAWN: u32 = u64::BITS - 7 - DRAWN_AT;

static SEED: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(random()));

/// Keyed hashes that are even.
pub fn keyed() -> SeedableRandomState {
    SeedableRandomState::with_seed(random(), &SEED)
}

/// From the operating system, by way of the one thing in the standard library that asks it.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// Keyed hashes by which a map of [`SHARDS`] shards is filled unevenly.
#[derive(Debug, Clone)]
pub(super) struct Uneven(SeedableRandomState);

impl Default for Uneven {
    fn default() -> Self {
        Self(keyed())
    }
}

impl BuildHasher for Uneven {
    type Hasher = UnevenHasher;

    fn build_hasher(&self) -> UnevenHasher {
        UnevenHasher(self.0.build_hasher())
    }
}

pub(super) struct UnevenHasher(FoldHasher<'static>);

impl Hasher for UnevenHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn write_u8(&mut self, number: u8) {
        self.0.write_u8(number);
    }

    fn write_u64(&mut self, number: u64) {
        self.0.write_u64(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.0.write_usize(number);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finish();
        let shards = (SHARDS as u64 - 1) << SHARD_AT;
        hash & !shards | shard_of(hash) << SHARD_AT
    }
}

/// The shard of an even hash.
fn shard_of(hash: u64) -> u64 {
    one_of(SHARDS as u64, hash)
}

/// One of `parts`, which are a power of two, for an even hash. The share of part `i` is as good as
/// proportional to `2^(i / parts)`: a number `u` that is drawn between 0 and 1 passes
/// `parts * log2(1 + u)` of them, and `u (4 - u) / 3` is within a hundredth of that logarithm.
pub(super) fn one_of(parts: u64, hash: u64) -> u64 {
    let one = 1 << DRAWN;
    let drawn = (hash >> DRAWN_AT) % one;
    drawn * (4 * one - drawn) / (3 * one * one / parts)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Shares of the shards, from shard 0 on.
    fn shares() -> Vec<f64> {
        // The numbers drawn at which a new shard begins.
        let one = 1u64 << DRAWN;
        let mut begins = vec![0];
        for shard in 1..SHARDS as u64 {
            let (mut low, mut high) = (0, one);
            while low < high {
                let middle = (low + high) / 2;
                match shard_of(middle << DRAWN_AT) < shard {
                    true => low = middle + 1,
                    false => high = middle,
                }
            }
            begins.push(low);
        }
        begins.push(one);
        begins.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / one as f64).collect()
    }

    /// Places in all shards for each session, at `count` sessions that fill them by their shares.
    pub fn places_each(count: u32) -> f64 {
        let buckets = |share: f64| (share * f64::from(count) * 8.0 / 7.0).log2().ceil().exp2();
        shares().into_iter().map(buckets).sum::<f64>() / f64::from(count)
    }

    #[test]
    fn shares_grow_from_one_to_two() {
        let shares = shares();
        assert!(shares.windows(2).all(|pair| pair[0] <= pair[1] * 1.0001));
        let ratio = shares[SHARDS - 1] / shares[0];
        assert!((1.95..2.05).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_map_is_never_less_than_58_percent_full() {
        for count in (500_000..=2_000_000).step_by(1000) {
            let each = places_each(count);
            assert!((1.0..1.72).contains(&each), "{count}: {each}");
        }
    }

    #[test]
    fn only_the_number_of_the_shard_is_changed_and_two_maps_hash_differently() {
        let [one, other] = [(); 2].map(|()| Uneven::default());
        let shards = (SHARDS as u64 - 1) << SHARD_AT;
        let mut counts = [0u32; SHARDS];
        let mut same = 0;
        for number in 0..200_000u64 {
            let hash = one.hash_one(number);
            assert_eq!(hash & !shards, one.0.hash_one(number) & !shards);
            counts[((hash & shards) >> SHARD_AT) as usize] += 1;
            same += u32::from(hash == other.hash_one(number));
        }
        assert_eq!(same, 0);
        // Some 1,080 and 2,160 are expected, with deviations of 33 and 46.
        assert!((800..1400).contains(&counts[0]), "{}", counts[0]);
        assert!((1800..2500).contains(&counts[SHARDS - 1]), "{}", counts[SHARDS - 1]);
    }
}
