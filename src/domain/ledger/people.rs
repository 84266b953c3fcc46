//! How many different people there were: exact while they are few, within about 1.6 % when they are many, in four
//! kilobytes at most. People come in as digests under the master key, so that nobody can be read out of a count.
//!
//! Many are kept as a `HyperLogLog` sketch (Flajolet et al. 2007) with the estimator of Ertl 2017 ("New cardinality
//! estimation algorithms for `HyperLogLog` sketches", section 4), which needs no table of corrections.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many are kept one by one.
const FEW: usize = 512;
/// 2^12 registers: a standard error of 1.04 / √4096.
const BITS: u32 = 12;
const REGISTERS: usize = 1 << BITS;
/// The largest a register can be: the rest of a digest without a one in it, and one.
const LARGEST: usize = 64 - BITS as usize + 1;

/// Different people.
#[derive(Clone, Debug, PartialEq)]
pub enum People {
    /// Their digests.
    Few(BTreeSet<u64>),
    /// The registers of the sketch.
    Many(Vec<u8>),
}

impl Default for People {
    fn default() -> Self {
        Self::Few(BTreeSet::new())
    }
}

impl People {
    /// Adds somebody; `false`: nothing changed by that.
    pub fn insert(&mut self, digest: u64) -> bool {
        match self {
            Self::Few(digests) => {
                let new = digests.insert(digest);
                if digests.len() > FEW {
                    *self = self.sketched();
                }
                new
            }
            Self::Many(registers) => raise(registers, digest),
        }
    }

    /// Everybody of both. Exact as long as both are, however many that makes.
    #[must_use]
    pub fn union(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Few(mut ours), Self::Few(theirs)) => {
                ours.extend(theirs);
                Self::Few(ours)
            }
            (ours, theirs) => {
                let (Self::Many(mut ours), Self::Many(theirs)) = (ours.sketched(), theirs.sketched()) else {
                    return Self::default();
                };
                ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours = theirs.max(*ours));
                Self::Many(ours)
            }
        }
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        match self {
            Self::Few(digests) => digests.len() as u64,
            Self::Many(registers) => estimate(registers),
        }
    }

    fn sketched(&self) -> Self {
        match self {
            Self::Few(digests) => {
                let mut registers = vec![0; REGISTERS];
                for digest in digests {
                    raise(&mut registers, *digest);
                }
                Self::Many(registers)
            }
            Self::Many(registers) => Self::Many(registers.clone()),
        }
    }
}

/// Lets the digest's register know of it.
fn raise(registers: &mut [u8], digest: u64) -> bool {
    let index = usize::try_from(digest >> (64 - BITS)).unwrap_or(0);
    // The mark keeps the rank within its bounds where the rest is all zeros.
    let rest = digest << BITS | 1 << (BITS - 1);
    let rank = u8::try_from(rest.leading_zeros() + 1).unwrap_or(u8::MAX);
    match registers.get_mut(index) {
        Some(register) if *register < rank => {
            *register = rank;
            true
        }
        Some(_) | None => false,
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate: counts of registers are small, and the result is a positive number of people"
)]
fn estimate(registers: &[u8]) -> u64 {
    let mut counts = [0_u32; LARGEST + 1];
    for register in registers {
        if let Some(count) = counts.get_mut(usize::from(*register)) {
            *count += 1;
        }
    }
    let size = REGISTERS as f64;
    let share = |rank: usize| f64::from(counts.get(rank).copied().unwrap_or(0)) / size;
    let mut sum = size * tau(1.0 - share(LARGEST));
    for rank in (1..LARGEST).rev() {
        sum = 0.5 * (sum + size * share(rank));
    }
    sum += size * sigma(share(0));
    let alpha = 1.0 / (2.0 * std::f64::consts::LN_2);
    (alpha * size * size / sum).round() as u64
}

/// x + x² + 2x⁴ + 4x⁸ + …: what empty registers weigh.
fn sigma(mut x: f64) -> f64 {
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if (sum - before).abs() <= f64::EPSILON * sum || !sum.is_finite() {
            return sum;
        }
    }
}

/// (1 − x − Σ (1 − x^(2⁻ᵏ))² 2⁻ᵏ) / 3: what full registers weigh.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut weight, mut rest) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = rest;
        weight *= 0.5;
        rest -= (1.0 - x).powi(2) * weight;
        if (rest - before).abs() <= f64::EPSILON {
            return rest / 3.0;
        }
    }
}

#[derive(Serialize, Deserialize)]
enum Kept {
    Few(String),
    Many(String),
}

impl Serialize for People {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kept = match self {
            Self::Few(digests) => {
                let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.to_be_bytes()).collect();
                Kept::Few(STANDARD_NO_PAD.encode(bytes))
            }
            Self::Many(registers) => Kept::Many(STANDARD_NO_PAD.encode(registers)),
        };
        kept.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for People {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = |text: String| STANDARD_NO_PAD.decode(text).map_err(serde::de::Error::custom);
        match Kept::deserialize(deserializer)? {
            Kept::Few(text) => {
                let bytes = bytes(text)?;
                let digests = bytes.as_chunks::<8>().0.iter().map(|digest| u64::from_be_bytes(*digest));
                Ok(Self::Few(digests.collect()))
            }
            Kept::Many(text) => {
                let registers = bytes(text)?;
                if registers.len() != REGISTERS {
                    return Err(serde::de::Error::custom("not a sketch"));
                }
                Ok(Self::Many(registers))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Ids;

    fn people(ids: &Ids, count: usize) -> Vec<u64> {
        (0..count).map(|_| ids.int64().cast_unsigned()).collect()
    }

    fn of(digests: &[u64]) -> People {
        let mut people = People::default();
        for digest in digests {
            people.insert(*digest);
        }
        people
    }

    #[test]
    fn few_are_counted_exactly_and_twice_is_once() {
        let digests = people(&Ids::from_seed([1; 32]), FEW);
        let mut counted = of(&digests);
        assert_eq!(counted.count(), FEW as u64);
        assert!(!counted.insert(digests[0]));
        assert_eq!(counted.count(), FEW as u64);
        let halves = of(&digests[..300]).union(&of(&digests[200..]));
        assert_eq!(halves, counted);
    }

    #[test]
    fn many_are_counted_within_five_percent_at_every_size() {
        let ids = Ids::from_seed([2; 32]);
        for count in [600, 2_000, 8_000, 10_240, 15_000, 50_000, 400_000] {
            let digests = people(&ids, count);
            let found = of(&digests).count();
            let off = found.abs_diff(count as u64) * 100 / count as u64;
            assert!(off < 5, "{found} instead of {count}");
            let (one, other) = digests.split_at(count / 3);
            let union = of(one).union(&of(other)).count();
            // Two small parts are counted exactly.
            let exact = one.len() <= FEW && other.len() <= FEW;
            assert_eq!(union, if exact { count as u64 } else { found }, "a union is as good as one");
            assert!(!of(&digests).insert(digests[7]));
        }
    }

    #[test]
    fn they_are_kept_small_and_read_as_they_were() {
        let ids = Ids::from_seed([3; 32]);
        for count in [0, 1, FEW, FEW + 1, 20_000] {
            let counted = of(&people(&ids, count));
            let json = serde_json::to_vec(&counted).unwrap();
            assert!(json.len() < 6_000, "{count}: {} bytes", json.len());
            assert_eq!(serde_json::from_slice::<People>(&json).unwrap(), counted);
        }
        assert!(serde_json::from_str::<People>(r#"{"Many":"AAAA"}"#).is_err());
    }
}
