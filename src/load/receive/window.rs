//! Remembers which numbers of one flow have been seen, within a fixed window.
//!
//! ```text
//!   positions     … late │ ×  ✓  ✓  ✓  ×  ✓  ✓ │ next …            ✓ seen   × skipped, may still arrive
//!                        └── window, a ring ───┘
//!   marks                  9  7  8 10 11 11 12    arrival at which the position was seen or passed
//! ```
//!
//! A position is a number less the flow's first one, modulo 2^64, so numbers that wrap need no care.
//! A mark holds one bit, whether the position was seen, and the index (15 bits, modulo) of the
//! arrival that first reached or passed it. For a skipped position that is the earliest datagram to
//! arrive with a larger number, which is what RFC 4737, section 4.2, measures a reordered packet's
//! extent from: `s[i] < NextExp` makes packet i reordered, and its extent is i − j for the smallest j
//! with `s[j] > s[i]`.

/// The fewest positions a window remembers. Reordering within that many is always detected.
pub(crate) const WINDOW_MIN: usize = 64;

/// The most positions a window remembers. Extents stay below twice that (see [`Window::extent`]), so
/// 15 bits of arrival index distinguish them.
pub(crate) const WINDOW_MAX: usize = 4096;

/// The largest jump ahead that is accepted at once: a million lost in a row. Lower: after a long outage the
/// first datagram counts as implausible for a moment. Higher: one stray number moves the flow further.
pub(crate) const JUMP_MAX: u64 = 1 << 20;

/// The end of positions. At 100 million a second a flow would need three thousand years.
const POSITION_END: u64 = 1 << 63;

/// The classification of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// New, and larger than all before it.
    InOrder,
    /// New, but after a larger one. Holds the extent (RFC 4737, section 4.2), at least 1.
    Reordered(u32),
    /// Seen before.
    Duplicate,
    /// Older than the window: new or a duplicate, which cannot be told.
    Late,
    /// Ahead by more than [`JUMP_MAX`], and not confirmed by a following number.
    Implausible,
    /// In order, and it confirms the implausible one before it, which now counts as seen.
    Resumed,
}

/// The window of one flow. Its memory is fixed at construction.
#[derive(Debug)]
pub(crate) struct Window {
    /// `index << 1 | seen` of each position from `next - marks.len()` on, at position modulo length.
    marks: Box<[u16]>,
    /// One more than the largest position seen: NextExp of RFC 4737, section 3.2.
    next: u64,
    /// Number of new arrivals, which is the index of the next one. Only the low 15 bits matter.
    arrivals: u16,
    /// An implausible position that may be confirmed; `u64::MAX` if there is none.
    candidate: u64,
    /// Positions that left the window unseen.
    given_up: u64,
}

impl Window {
    /// Makes a window over `len` positions, a power of two from [`WINDOW_MIN`] to [`WINDOW_MAX`].
    pub(crate) fn new(len: usize) -> Self {
        debug_assert!(len.is_power_of_two() && (WINDOW_MIN..=WINDOW_MAX).contains(&len));
        // Positions before the first one count as seen.
        let marks = vec![1; len].into_boxed_slice();
        Self { marks, next: 0, arrivals: 0, candidate: u64::MAX, given_up: 0 }
    }

    /// Returns one more than the largest position seen; 0 before any.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Returns how many positions left the window unseen. At most that many of the late ones were new.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Classifies one position. Constant time in order, at worst one pass over the window.
    #[inline]
    pub(crate) fn take(&mut self, position: u64) -> Place {
        if position == self.next && position < POSITION_END {
            self.step();
            return Place::InOrder;
        }
        self.take_out_of_line(position)
    }

    #[inline(never)]
    fn take_out_of_line(&mut self, position: u64) -> Place {
        if position < self.next {
            return self.take_from_behind(position);
        }
        if position >= POSITION_END {
            return Place::Implausible;
        }
        if position - self.next <= JUMP_MAX {
            self.skip_to(position);
            self.step();
            return Place::InOrder;
        }
        // As in RTP (RFC 3550, appendix A.1), a second number that follows confirms the jump.
        let follows =
            position > self.candidate && position - self.candidate <= self.marks.len() as u64;
        if !follows {
            self.candidate = position;
            return Place::Implausible;
        }
        self.skip_to(self.candidate);
        self.step();
        self.skip_to(position);
        self.step();
        Place::Resumed
    }

    fn take_from_behind(&mut self, position: u64) -> Place {
        if self.next - position > self.marks.len() as u64 {
            return Place::Late;
        }
        let at = self.slot(position);
        let mark = self.marks[at];
        if mark & 1 == 1 {
            return Place::Duplicate;
        }
        self.marks[at] = mark | 1;
        let extent = self.extent(mark);
        self.arrivals = self.arrivals.wrapping_add(1);
        Place::Reordered(extent)
    }

    /// Returns how many arrivals ago a mark was made. Since then every arrival was either above its position,
    /// fewer than one window of them, or below it and in the window: again fewer than one window.
    fn extent(&self, mark: u16) -> u32 {
        u32::from(self.arrivals.wrapping_sub(mark >> 1) & (u16::MAX >> 1))
    }

    /// Marks `next` as seen and moves on.
    #[inline]
    fn step(&mut self) {
        let at = self.slot(self.next);
        let mark = &mut self.marks[at];
        self.given_up += u64::from(*mark & 1 == 0);
        *mark = self.arrivals << 1 | 1;
        self.arrivals = self.arrivals.wrapping_add(1);
        self.next += 1;
    }

    /// Marks every position from `next` up to `position` as passed by the arrival that comes now.
    fn skip_to(&mut self, position: u64) {
        let len = self.marks.len();
        let skipped = position - self.next;
        let passed = self.arrivals << 1;
        let marked = usize::try_from(skipped).unwrap_or(usize::MAX).min(len);
        // Positions that enter and leave the window within this jump.
        self.given_up += skipped - marked as u64;
        let start = self.slot(position - marked as u64);
        let tail = marked.min(len - start);
        for range in [start..start + tail, 0..marked - tail] {
            let marks = &mut self.marks[range];
            self.given_up += marks.iter().filter(|&&mark| mark & 1 == 0).count() as u64;
            marks.fill(passed);
        }
        self.next = position;
    }

    #[inline]
    fn slot(&self, position: u64) -> usize {
        // The length is a power of two, so the low bits are the place in the ring; those of a usize
        // are enough.
        #[expect(clippy::cast_possible_truncation, reason = "only the low 12 bits are used")]
        let low = position as usize;
        low & (self.marks.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// RFC 4737 read literally over the list of all arrivals, and nothing forgotten: what is in the
    /// window is asked of the whole history.
    #[derive(Default)]
    struct Model {
        window: u64,
        /// Positions in order of arrival, new ones only: s[1], s[2], …
        arrived: Vec<u64>,
        candidate: Option<u64>,
    }

    impl Model {
        fn next(&self) -> u64 {
            self.arrived.iter().max().map_or(0, |largest| largest + 1)
        }

        fn given_up(&self) -> u64 {
            let edge = self.next().saturating_sub(self.window);
            let seen: HashSet<_> = self.arrived.iter().filter(|&&s| s < edge).collect();
            edge - seen.len() as u64
        }

        fn take(&mut self, s: u64) -> Place {
            let next_exp = self.next();
            if s >= next_exp {
                if s >= 1 << 63 {
                    return Place::Implausible;
                }
                if s - next_exp <= JUMP_MAX {
                    self.arrived.push(s);
                    return Place::InOrder;
                }
                return match self.candidate {
                    Some(candidate) if s > candidate && s - candidate <= self.window => {
                        self.arrived.extend([candidate, s]);
                        Place::Resumed
                    }
                    _ => {
                        self.candidate = Some(s);
                        Place::Implausible
                    }
                };
            }
            if s + self.window < next_exp {
                return Place::Late;
            }
            if self.arrived.contains(&s) {
                return Place::Duplicate;
            }
            let i = self.arrived.len();
            let j = self.arrived.iter().position(|&earlier| earlier > s).unwrap();
            self.arrived.push(s);
            Place::Reordered(u32::try_from(i - j).unwrap())
        }
    }

    fn agree(len: usize, positions: impl IntoIterator<Item = u64>) {
        let mut window = Window::new(len);
        let mut model = Model { window: len as u64, ..Model::default() };
        for (index, position) in positions.into_iter().enumerate() {
            let wanted = model.take(position);
            assert_eq!(window.take(position), wanted, "arrival {index}: {position}");
            assert_eq!(window.next(), model.next(), "arrival {index}: {position}");
            assert_eq!(window.given_up(), model.given_up(), "arrival {index}: {position}");
        }
    }

    #[test]
    fn the_extents_of_the_standard() {
        // In the manner of RFC 4737, section 7: one packet reordered, then three; and five that a
        // single early one makes reordered. There the first number is 1.
        let verdicts = |order: &[u64]| -> Vec<Place> {
            let mut window = Window::new(64);
            order.iter().map(|s| window.take(s - 1)).collect()
        };
        let late_one = verdicts(&[1, 2, 3, 5, 6, 7, 8, 4, 9, 10]);
        assert_eq!(late_one[7], Place::Reordered(4));
        assert_eq!(late_one.iter().filter(|v| **v == Place::InOrder).count(), 9);
        let three = verdicts(&[1, 2, 3, 7, 8, 9, 10, 4, 5, 6, 11]);
        assert_eq!(three[7..10], [4, 5, 6].map(Place::Reordered));
        let early_one = verdicts(&[1, 2, 3, 4, 10, 5, 6, 7, 8, 9, 11]);
        let extents: Vec<_> = (1..=5).map(Place::Reordered).collect();
        assert_eq!(early_one[5..10], extents);
    }

    #[test]
    fn a_window_turned_upside_down() {
        for len in [64, 4096] {
            let top = len as u64 - 1;
            agree(len, (0..=top).rev().chain(top + 1..top + 9));
            // The largest extents there are: a whole window below the mark, then a whole one above.
            agree(len, [top * 2].into_iter().chain(top..top * 2).chain([top - 1]));
        }
    }

    #[test]
    fn the_edge_of_the_window() {
        agree(64, [64, 0, 0, 1, 1, 65, 0, 1, 66, 2, 3]);
        agree(64, [0, 64, 1, 65, 1, 129, 65, 66, 194, 65 + 64 * 7, 1 << 20, 5]);
    }

    #[test]
    fn a_wild_number_moves_nothing_until_borne_out() {
        let far = 1 << 40;
        let mut window = Window::new(64);
        assert_eq!(window.take(0), Place::InOrder);
        assert_eq!(window.take(far), Place::Implausible);
        assert_eq!(window.take(1), Place::InOrder);
        assert_eq!(window.take(far), Place::Implausible, "itself again bears out nothing");
        assert_eq!(window.take(far + 65), Place::Implausible);
        assert_eq!(window.take(far + 67), Place::Resumed);
        assert_eq!(window.take(far + 66), Place::Reordered(1));
        assert_eq!(window.take(2), Place::Late);
        assert_eq!(window.next(), far + 68);
        for end in [u64::MAX, u64::MAX - 1, 1 << 63, u64::MAX] {
            assert_eq!(window.take(end), Place::Implausible);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        /// Streams with losses, duplicates, reordering, jumps over the window and wild numbers.
        #[test]
        fn judges_as_the_standard_does(
            steps in proptest::collection::vec((0u8..16, any::<u64>()), 1..500),
            wide in any::<bool>(),
        ) {
            let (mut next, mut wild) = (0u64, 0u64);
            let positions = steps.into_iter().map(|(kind, random)| {
                let position = match kind {
                    0..=7 => next,
                    8 | 9 => next + random % 5,
                    10..=12 => next.saturating_sub(random % 80),
                    13 => next + random % 300,
                    14 if random % 3 == 0 => next + JUMP_MAX - 2 + random % 4,
                    14 => random >> (random % 40),
                    _ if wild <= next || random % 4 == 0 => {
                        wild = next + JUMP_MAX + random % (1 << 30);
                        wild
                    }
                    // Near the wild one: below it, the same again, or what bears it out.
                    _ => wild - 3 + random % 70,
                };
                if kind < 14 || (kind == 15 && position > wild) { next = next.max(position + 1); }
                position
            });
            agree(if wide { 256 } else { 64 }, positions.collect::<Vec<_>>());
        }
    }
}
