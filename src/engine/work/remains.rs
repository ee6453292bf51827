//! The value that a handler leaves when its engine has stopped.

use std::any::Any;
use std::fmt;

/// Value that a handler leaves at a stop: totals, tables, open files. [`Engine::stop_with_remains`] returns it.
///
/// It is a box of any type, so that an engine's own type does not depend on its handlers'.
///
/// [`Engine::stop_with_remains`]: crate::control::engine::Engine::stop_with_remains
#[derive(Default)]
pub struct Remains {
    value: Option<Box<dyn Any + Send>>,
}

impl Remains {
    /// Returns the remains of a handler that leaves nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns remains that hold `value`.
    #[must_use]
    pub fn new<T: Any + Send>(value: T) -> Self {
        Self { value: Some(Box::new(value)) }
    }

    /// Returns the value, or `None` if there is none or it is of another type.
    #[must_use]
    pub fn into_value<T: Any>(self) -> Option<T> {
        self.value.and_then(|value| value.downcast().ok()).map(|value| *value)
    }
}

impl fmt::Debug for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remains").field("is_some", &self.value.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_as_the_type_it_was() {
        assert_eq!(Remains::new(7u32).into_value::<u32>(), Some(7));
        assert_eq!(Remains::new(7u32).into_value::<u64>(), None);
        assert_eq!(Remains::none().into_value::<u32>(), None);
    }
}
