//! Tensors to test with.

use super::HostTensor;

/// Numbers in -1..1 that look random and are the same on every machine.
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    // SplitMix64: one line, no dependency, good enough to make layout mistakes visible.
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A float32 tensor of [`numbers`].
pub fn sample(shape: &[usize], seed: u64) -> HostTensor {
    HostTensor::f32(shape, &numbers(shape.iter().product(), seed))
}
