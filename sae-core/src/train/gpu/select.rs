//! Selects features by rank, by a radix search on the bits of floats: the largest of each row, or of a whole batch. Nothing
//! is sorted but the features of a token.

use cubecl::prelude::*;

/// Units of a cube, in all kernels.
pub const UNITS: usize = 256;

/// Bins of one pass: eleven bits, so that three passes see all thirty-two.
pub const BINS: usize = 2048;

/// All columns of a row of products.
pub const ALL: u32 = 0;
/// Columns that a list names.
pub const LISTED: u32 = 1;
/// Candidates that an earlier selection has written, with values of their own.
pub const CANDIDATES: u32 = 2;

/// The passes of a search: by how much keys are shifted, and how many bits were seen before.
pub const PASSES: [u32; 3] = [21, 10, 0];

/// [`order_of`] on the device.
#[cube]
fn order(value: f32) -> u32 {
    let bits = u32::reinterpret(value);
    select(bits >= 0x8000_0000u32, !bits, bits | 0x8000_0000u32)
}

/// The sort key of a float: integers that are ordered as the floats are.
pub fn order_of(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The float with this sort key.
pub fn float_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// The column that the `j`-th entry of a row stands for.
#[cube]
pub fn column(listed: &[u32], row: usize, width: usize, j: usize, #[comptime] from: u32) -> usize {
    if from == ALL {
        j
    } else if from == LISTED {
        listed[j] as usize
    } else {
        listed[row * width + j] as usize
    }
}

/// The entry's pre-activation, bias included.
#[cube]
pub fn value(p: &[f32], bias: &[f32], row: usize, width: usize, j: usize, k: usize, #[comptime] from: u32) -> f32 {
    if from == CANDIDATES { p[row * width + j] } else { p[row * width + k] + bias[k] }
}

/// The sort key by which an entry is selected.
#[cube]
fn rank(value: f32, gain: &[f32], k: usize, #[comptime] weighed: bool) -> u32 {
    if weighed { order(value * gain[k]) } else { order(value) }
}

/// The `keep` largest entries of every row among those whose sort key is above `floors[floor_at]`; one cube for each row. Their order
/// within the row is fixed but not ascending.
///
/// # Shapes
/// `p`: `[rows, width]`; `listed`: `[columns]`, or `[rows, width]` for candidates, of which a row has `lens[row]`;
/// `bias`, `gain`: `[d_sae]`; `features`, `values`: `[rows, keep]`, of which `kept[row]` are written.
#[cube(launch)]
pub fn strongest(
    p: &[f32],
    listed: &[u32],
    lens: &[u32],
    bias: &[f32],
    gain: &[f32],
    floors: &[u32],
    features: &mut [u32],
    values: &mut [f32],
    kept: &mut [u32],
    width: usize,
    columns: usize,
    keep: usize,
    floor_at: usize,
    #[comptime] from: u32,
    #[comptime] weighed: bool,
) {
    let row = CUBE_POS_X as usize;
    let unit = UNIT_POS as usize;
    let floor = floors[floor_at];
    let bins = Shared::<[Atomic<u32>]>::new_slice(BINS);
    let mut sums = Shared::<[u32]>::new_slice(UNITS);
    let mut equals = Shared::<[u32]>::new_slice(UNITS);
    // Found so far: the high bits of the smallest selected key, how many entries with these high bits are still to be
    // selected, and whether there are enough entries.
    let mut found = Shared::<[u32]>::new_slice(3usize);
    let count = if from == CANDIDATES { lens[row] as usize } else { columns };
    if unit == 0 {
        found[0] = 0;
        found[1] = keep as u32;
        found[2] = 1;
    }
    #[unroll]
    for pass in 0..3u32 {
        let shift = comptime!(PASSES[pass as usize]);
        let mask = comptime!(if pass == 2 { 1023u32 } else { 2047u32 });
        let seen = comptime!(if pass == 2 { 10u32 } else { shift + 11 });
        let mut bin = unit;
        while bin < BINS {
            bins[bin].store(0);
            bin += UNITS;
        }
        sync_cube();
        let mut j = unit;
        while j < count {
            let k = column(listed, row, width, j, from);
            let key = rank(value(p, bias, row, width, j, k, from), gain, k, weighed);
            let mut own = key > floor;
            if comptime!(pass > 0) {
                own = own && (key >> seen) == found[0];
            }
            if own {
                bins[((key >> shift) & mask) as usize].fetch_add(1);
            }
            j += UNITS;
        }
        sync_cube();
        let mut sum = 0u32;
        for n in 0..8usize {
            sum += bins[unit * 8 + n].load();
        }
        sums[unit] = sum;
        sync_cube();
        if unit == 0 && found[2] == 1 {
            let mut left = found[1];
            let mut group = CUBE_DIM as usize;
            let mut under = false;
            while group > 0 && !under {
                group -= 1;
                under = sums[group] >= left;
                if !under {
                    left -= sums[group];
                }
            }
            if under {
                let mut bin = group * 8 + 8;
                under = false;
                while bin > group * 8 && !under {
                    bin -= 1;
                    let here = bins[bin].load();
                    under = here >= left;
                    if !under {
                        left -= here;
                    }
                }
                found[0] = found[0] * (mask + 1) + bin as u32;
                found[1] = left;
            } else {
                found[2] = 0;
            }
        }
        sync_cube();
    }
    // Fewer than asked for: all above the floor, and none that equals it.
    let enough = found[2] == 1;
    let least = select(enough, found[0], floor);
    let of_equals = select(enough, found[1], 0u32);
    let mut over = 0u32;
    let mut same = 0u32;
    let mut j = unit;
    while j < count {
        let k = column(listed, row, width, j, from);
        let key = rank(value(p, bias, row, width, j, k, from), gain, k, weighed);
        over += u32::cast_from(key > least);
        same += u32::cast_from(key == least);
        j += UNITS;
    }
    sums[unit] = over;
    equals[unit] = same;
    sync_cube();
    let mut at = 0u32;
    let mut nth = 0u32;
    let mut total = 0u32;
    let mut all_same = 0u32;
    for n in 0..UNITS {
        if n < unit {
            at += sums[n];
            nth += equals[n];
        }
        total += sums[n];
        all_same += equals[n];
    }
    let mut j = unit;
    while j < count {
        let k = column(listed, row, width, j, from);
        let own = value(p, bias, row, width, j, k, from);
        let key = rank(own, gain, k, weighed);
        if key > least {
            features[row * keep + at as usize] = k as u32;
            values[row * keep + at as usize] = own;
            at += 1;
        }
        if key == least {
            if nth < of_equals {
                let to = row * keep + (total + nth) as usize;
                features[to] = k as u32;
                values[to] = own;
            }
            nth += 1;
        }
        j += UNITS;
    }
    if unit == 0 {
        kept[row] = total + min(of_equals, all_same);
    }
}

/// Sorts the entries of every row by feature, so that sums over them have the same bits whatever the order of the
/// candidates was; one cube for each row.
///
/// # Shapes
/// All `[rows, width]`, of which a row has `lens[row]`.
#[cube(launch)]
pub fn ascending(
    features: &[u32],
    values: &[f32],
    lens: &[u32],
    out_features: &mut [u32],
    out_values: &mut [f32],
    width: usize,
) {
    let start = CUBE_POS_X as usize * width;
    let len = lens[CUBE_POS_X as usize] as usize;
    let mut n = UNIT_POS as usize;
    while n < len {
        let own = features[start + n];
        let mut at = start;
        for other in 0..len {
            if features[start + other] < own {
                at += 1;
            }
        }
        out_features[at] = own;
        out_values[at] = values[start + n];
        n += UNITS;
    }
}

/// What a search among the sort keys of a batch has found, in an array of four: the high bits of the key.
pub const FOUND: usize = 0;
/// How many of the entries with these bits are still to be found.
pub const LEFT: usize = 1;
/// The number of entries.
pub const TOTAL: usize = 2;
/// After the last pass: what the selected keys are above. Keys of activations that are not above 0 are not selected.
pub const FLOOR: usize = 3;

/// Counts how often each digit of a pass occurs among the sort keys of a batch that have the bits found so far; one unit for
/// each entry.
///
/// # Shapes
/// `values`, `features`: `[rows, width]`, of which a row has `lens[row]`; `search`: `[4]`; `bins`: [`BINS`], zero before.
#[cube(launch)]
pub fn digits(
    values: &[f32],
    features: &[u32],
    lens: &[u32],
    gain: &[f32],
    search: &[u32],
    bins: &[Atomic<u32>],
    width: usize,
    #[comptime] pass: u32,
    #[comptime] weighed: bool,
) {
    let shift = comptime!(PASSES[pass as usize]);
    let mask = comptime!(if pass == 2 { 1023u32 } else { 2047u32 });
    let seen = comptime!(if pass == 2 { 10u32 } else { shift + 11 });
    let row = CUBE_POS_X as usize;
    let mut n = UNIT_POS as usize;
    while n < lens[row] as usize {
        let at = row * width + n;
        let key = rank(values[at], gain, features[at] as usize, weighed);
        let mut own = true;
        if comptime!(pass > 0) {
            own = (key >> seen) == search[FOUND];
        }
        if own {
            bins[((key >> shift) & mask) as usize].fetch_add(1);
        }
        n += UNITS;
    }
}

/// Continues the search for the `wanted`-th largest sort key of a batch (the smallest if there are fewer) by the digit of a
/// pass, and clears the counts; one cube.
///
/// # Shapes
/// `bins`: [`BINS`]; `search`: `[4]`; `zero`: the sort key of 0.
#[cube(launch)]
pub fn pick(bins: &mut [u32], search: &mut [u32], wanted: u32, zero: u32, #[comptime] pass: u32) {
    let unit = UNIT_POS as usize;
    let mut sums = Shared::<[u32]>::new_slice(UNITS);
    let mut sum = 0u32;
    for n in 0..8usize {
        sum += bins[unit * 8 + n];
    }
    sums[unit] = sum;
    sync_cube();
    if unit == 0 {
        if pass == 0 {
            let mut total = 0u32;
            for group in 0..UNITS {
                total += sums[group];
            }
            search[FOUND] = 0;
            search[LEFT] = min(wanted, total);
            search[TOTAL] = total;
        }
        let mut left = search[LEFT];
        let mut group = CUBE_DIM as usize - 1;
        while group > 0 && sums[group] < left {
            left -= sums[group];
            group -= 1;
        }
        let mut bin = group * 8 + 7;
        while bin > 0 && bins[bin] < left {
            left -= bins[bin];
            bin -= 1;
        }
        let width = comptime!(if pass == 2 { 10u32 } else { 11u32 });
        let found = (search[FOUND] << width) | bin as u32;
        search[FOUND] = found;
        search[LEFT] = left;
        if pass == 2 {
            search[FLOOR] = max(found, zero + 1) - 1;
        }
    }
    sync_storage();
    for n in 0..8usize {
        bins[unit * 8 + n] = 0;
    }
}
