//! How often somebody may try: a window a key, in memory.
//!
//! A restart forgets; the cost of a try (argon2) is the limit then.

use std::collections::HashMap;
use std::sync::Mutex;

pub struct Limiter {
    tries_max: usize,
    window_ms: u64,
    seen: Mutex<HashMap<String, Vec<u64>>>,
}

/// Keys that are remembered; when there are more, those whose window is over go first, then all.
const KEYS_MAX: usize = 16_384;

impl Limiter {
    pub fn new(tries_max: usize, window_ms: u64) -> Limiter {
        Limiter { tries_max, window_ms, seen: Mutex::default() }
    }

    /// Counts a try of each key at `now_ms` (monotonic). `Err` holds the milliseconds to wait, and then nothing is counted.
    pub fn try_all(&self, keys: &[&str], now_ms: u64) -> Result<(), u64> {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if seen.len() >= KEYS_MAX {
            seen.retain(|_, tries| tries.iter().any(|at| now_ms.saturating_sub(*at) < self.window_ms));
            if seen.len() >= KEYS_MAX {
                seen.clear();
            }
        }
        let mut wait = None;
        for key in keys {
            let Some(tries) = seen.get_mut(*key) else { continue };
            tries.retain(|at| now_ms.saturating_sub(*at) < self.window_ms);
            if tries.len() >= self.tries_max {
                wait = wait.max(tries.first().map(|first| self.window_ms - now_ms.saturating_sub(*first)));
            }
        }
        if let Some(wait) = wait {
            return Err(wait);
        }
        for key in keys {
            seen.entry((*key).to_owned()).or_default().push(now_ms);
        }
        Ok(())
    }

    pub fn forget(&self, keys: &[&str]) {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for key in keys {
            seen.remove(*key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_try_waits_until_the_first_is_over() {
        let limiter = Limiter::new(5, 900_000);
        for n in 0..5 {
            assert_eq!(limiter.try_all(&["ip", "name"], n * 1000), Ok(()));
        }
        assert_eq!(limiter.try_all(&["ip", "other"], 10_000), Err(890_000));
        assert_eq!(limiter.try_all(&["elsewhere", "name"], 10_000), Err(890_000));
        assert_eq!(limiter.try_all(&["ip"], 900_000), Ok(()));
        limiter.forget(&["name"]);
        assert_eq!(limiter.try_all(&["name"], 10_000), Ok(()));
    }
}
