//! Tags: the `user_data` of submission entries. The kernel copies it into the completion, which it identifies.

/// The operation that a completion belongs to. In `user_data` the kind is in the high half, an index in the low half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Receive(usize),
    Wake,
    Send(usize),
    Writable(usize),
    Cancel,
}

impl Tag {
    pub(crate) fn encode(self) -> u64 {
        let (kind, index) = match self {
            Self::Receive(listener) => (1, listener),
            Self::Wake => (2, 0),
            Self::Send(index) => (3, index),
            Self::Writable(listener) => (4, listener),
            Self::Cancel => (5, 0),
        };
        kind << 32 | index as u64
    }

    pub(crate) fn decode(user_data: u64) -> Self {
        let index = (user_data & 0xffff_ffff) as usize;
        match user_data >> 32 {
            1 => Self::Receive(index),
            2 => Self::Wake,
            3 => Self::Send(index),
            4 => Self::Writable(index),
            _ => Self::Cancel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_back_as_they_went() {
        for tag in [Tag::Receive(7), Tag::Wake, Tag::Send(63), Tag::Writable(3), Tag::Cancel] {
            assert_eq!(Tag::decode(tag.encode()), tag);
        }
    }
}
