//! Made-up inputs: the same for the same model, of the shapes and ranges its owner names.

use std::collections::BTreeMap;

use bytes::Bytes;
use half::{bf16, f16};

use crate::api::{Data, Datatype, Error, NamedTensor, Result, Tensor};
use crate::repository::ProbeInput;
use crate::session::Port;

/// What free extents become.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes<'a> {
    /// Rows, where the model's first axes are a batch.
    pub(crate) batch: Option<usize>,
    /// Extents by input, without the batch axis if there is one.
    pub(crate) given: BTreeMap<&'a str, &'a [usize]>,
    /// What every other free extent becomes.
    pub(crate) free: usize,
}

impl Shapes<'_> {
    fn of(&self, port: &Port) -> Result<Vec<usize>> {
        let (head, declared) = match (self.batch, port.shape.split_first()) {
            (Some(rows), Some((_, rest))) => (vec![rows], rest),
            _ => (Vec::new(), port.shape.as_slice()),
        };
        let tail = match self.given.get(port.name.as_str()) {
            Some(given) => {
                let fits = given.len() == declared.len()
                    && given
                        .iter()
                        .zip(declared)
                        .all(|(&g, &d)| d < 0 || i64::try_from(g) == Ok(d));
                // An input whose rank is open is declared without extents.
                if !fits && !declared.is_empty() {
                    return Err(Error::invalid(format!(
                        "the shape {given:?} does not fit input `{}` {declared:?} (the batch axis is left out)",
                        port.name
                    )));
                }
                given.to_vec()
            }
            None => declared
                .iter()
                .map(|&d| usize::try_from(d).unwrap_or(self.free))
                .collect(),
        };
        Ok(head.into_iter().chain(tail).collect())
    }
}

/// Inputs for `ports`.
pub(crate) fn synthesize(
    ports: &[Port],
    shapes: &Shapes<'_>,
    ranges: &BTreeMap<String, ProbeInput>,
    seed: u64,
) -> Result<Vec<NamedTensor>> {
    // Half a gigabyte for one input is a mistake in a shape, not a probe.
    const MOST_ELEMENTS: usize = 1 << 27;
    ports
        .iter()
        .enumerate()
        .map(|(i, port)| {
            let shape = shapes.of(port)?;
            let elements = shape
                .iter()
                .try_fold(1usize, |product, &extent| product.checked_mul(extent))
                .filter(|&elements| elements <= MOST_ELEMENTS)
                .ok_or_else(|| {
                    Error::invalid(format!(
                        "the shape {shape:?} of input `{}` is too large to try",
                        port.name
                    ))
                })?;
            let range = ranges.get(&port.name);
            let mut numbers = Numbers(seed ^ (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            Ok(NamedTensor {
                name: port.name.clone(),
                tensor: Tensor {
                    datatype: port.datatype,
                    data: numbers.data(port.datatype, elements, range),
                    shape,
                },
            })
        })
        .collect()
}

/// splitmix64: small, and the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, minimum: f64, maximum: f64) -> f64 {
        minimum + (self.next() >> 11) as f64 / (1u64 << 53) as f64 * (maximum - minimum)
    }

    fn whole(&mut self, minimum: i64, maximum: i64) -> i64 {
        let span = maximum.abs_diff(minimum).saturating_add(1);
        minimum.wrapping_add((self.next() % span) as i64)
    }

    fn data(&mut self, datatype: Datatype, n: usize, range: Option<&ProbeInput>) -> Data {
        let minimum = range.and_then(|range| range.minimum);
        let maximum = range.and_then(|range| range.maximum);
        // Numbers of both signs around 0, and integers that are an index or a mask in every model.
        let (low, high) = (minimum.unwrap_or(-1.0), maximum.unwrap_or(1.0));
        let (least, most) = (minimum.unwrap_or(0.0) as i64, maximum.unwrap_or(1.0) as i64);
        let (low, high) = (low.min(high), high.max(low));
        let (least, most) = (least.min(most), most.max(least));
        let mut fill = |bytes: fn(&mut Self, Bounds) -> Vec<u8>| {
            let bounds = Bounds {
                low,
                high,
                least,
                most,
            };
            Data::Fixed((0..n).flat_map(|_| bytes(self, bounds)).collect())
        };
        match datatype {
            Datatype::Bool => fill(|r, _| vec![(r.next() & 1) as u8]),
            Datatype::Fp16 => fill(|r, b| f16::from_f64(r.between(b.low, b.high)).to_le_bytes().to_vec()),
            Datatype::Bf16 => fill(|r, b| bf16::from_f64(r.between(b.low, b.high)).to_le_bytes().to_vec()),
            Datatype::Fp32 => fill(|r, b| (r.between(b.low, b.high) as f32).to_le_bytes().to_vec()),
            Datatype::Fp64 => fill(|r, b| r.between(b.low, b.high).to_le_bytes().to_vec()),
            Datatype::Int8 | Datatype::Uint8 => fill(|r, b| vec![r.whole(b.least, b.most) as u8]),
            Datatype::Int16 | Datatype::Uint16 => {
                fill(|r, b| (r.whole(b.least, b.most) as u16).to_le_bytes().to_vec())
            }
            Datatype::Int32 | Datatype::Uint32 => {
                fill(|r, b| (r.whole(b.least, b.most) as u32).to_le_bytes().to_vec())
            }
            Datatype::Int64 | Datatype::Uint64 => {
                fill(|r, b| r.whole(b.least, b.most).to_le_bytes().to_vec())
            }
            Datatype::Bytes => {
                const WORDS: [&str; 5] = ["afterglow", "Größe", "", "a b", "0"];
                let word = |r: &mut Self| {
                    Bytes::from_static(WORDS[(r.next() % WORDS.len() as u64) as usize].as_bytes())
                };
                Data::Strings((0..n).map(|_| word(self)).collect())
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Bounds {
    low: f64,
    high: f64,
    least: i64,
    most: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, datatype: Datatype, shape: &[i64]) -> Port {
        Port {
            name: name.into(),
            datatype,
            shape: shape.to_vec(),
            symbols: vec![String::new(); shape.len()],
        }
    }

    #[test]
    fn shapes_come_from_the_model_the_owner_and_the_guess_in_this_order() {
        let ports = [
            port("a", Datatype::Fp32, &[-1, 3, -1]),
            port("b", Datatype::Int64, &[-1, -1]),
        ];
        let given = [7usize];
        let shapes = Shapes {
            batch: Some(2),
            given: BTreeMap::from([("b", &given[..])]),
            free: 5,
        };
        let inputs = synthesize(&ports, &shapes, &BTreeMap::new(), 1).unwrap();
        assert_eq!(inputs[0].tensor.shape, [2, 3, 5]);
        assert_eq!(inputs[1].tensor.shape, [2, 7]);
        let whole = Shapes {
            batch: None,
            ..shapes
        };
        assert!(
            synthesize(&ports, &whole, &BTreeMap::new(), 1)
                .unwrap_err()
                .message
                .contains("`b`")
        );
        let huge = Shapes {
            free: usize::MAX,
            ..Default::default()
        };
        assert!(
            synthesize(&ports, &huge, &BTreeMap::new(), 1)
                .unwrap_err()
                .message
                .contains("too large")
        );
    }

    #[test]
    fn values_keep_their_range_and_repeat() {
        let ports: Vec<Port> = Datatype::ALL.iter().map(|&d| port(d.name(), d, &[64])).collect();
        let range = ProbeInput {
            shape: None,
            minimum: Some(3.0),
            maximum: Some(9.0),
        };
        let ranges: BTreeMap<String, ProbeInput> = Datatype::ALL
            .iter()
            .map(|d| (d.name().to_owned(), range.clone()))
            .collect();
        let made = synthesize(&ports, &Shapes::default(), &ranges, 7).unwrap();
        assert_eq!(made, synthesize(&ports, &Shapes::default(), &ranges, 7).unwrap());
        assert_ne!(made, synthesize(&ports, &Shapes::default(), &ranges, 8).unwrap());
        for input in &made {
            let Data::Fixed(bytes) = &input.tensor.data else {
                continue;
            };
            let size = input.tensor.datatype.size().unwrap();
            assert_eq!(bytes.len(), 64 * size, "{}", input.name);
            match input.tensor.datatype {
                Datatype::Int64 => assert!(
                    bytes
                        .chunks(8)
                        .all(|c| (3..=9).contains(&i64::from_le_bytes(c.try_into().unwrap())))
                ),
                Datatype::Uint8 => assert!(bytes.iter().all(|v| (3..=9).contains(v))),
                Datatype::Fp32 => assert!(
                    bytes
                        .chunks(4)
                        .all(|c| (3.0..=9.0).contains(&f32::from_le_bytes(c.try_into().unwrap())))
                ),
                _ => {}
            }
        }
    }
}
