//! How many files and sockets the tests may have open.

use std::sync::{Condvar, Mutex, Once, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For everything that [`reserve`] is not told of: the other tests that run at the same time.
const OTHERS: u64 = 256;

/// Raises the soft limit of this process, and of those that it starts, to the hard one. The usual soft limit of 1,024
/// is there for programs that call `select`.
pub fn raise() {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        // A refusal shows where files are opened.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    });
}

/// Room for open files; given back when dropped.
#[derive(Debug)]
pub struct Reserved(u64);

static TAKEN: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());

/// For a test that has `count` files open at once. Waits while others have too many.
///
/// # Panics
/// When the hard limit does not allow so many.
#[track_caller]
pub fn reserve(count: usize) -> Reserved {
    raise();
    let count = count as u64;
    // `None` is no limit.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = match room(count, limit) {
        Ok(most) => most,
        Err(said) => panic!("{said}"),
    };
    let (taken, given_back) = &TAKEN;
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = given_back.wait_while(taken, |taken| *taken > most);
    *taken.unwrap_or_else(PoisonError::into_inner) += count;
    Reserved(count)
}

/// What the other tests may have reserved beside this one.
fn room(count: u64, limit: u64) -> Result<u64, String> {
    let needed = count + OTHERS;
    limit.checked_sub(needed).ok_or_else(|| {
        format!("this test needs {needed} open files, and the hard limit is {limit}: raise that (`ulimit -n {needed}` as root)")
    })
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let (taken, given_back) = &TAKEN;
        *taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_hard_one() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }

    #[test]
    fn a_test_that_needs_more_than_it_can_get_says_how_much() {
        assert_eq!(room(1000, 4096), Ok(2840));
        assert_eq!(room(768, 1024), Ok(0));
        let said = room(1000, 1024).expect_err("it is too much");
        assert!(said.contains("needs 1256 open files, and the hard limit is 1024"), "{said}");
    }
}
