//! The executor is killed at every step boundary of the shop's plan; the next `up` converges.

use crate::examples::example;
use crate::world::{get, is_root};
use std::os::unix::process::ExitStatusExt;

#[test]
fn killed_at_every_boundary_the_next_up_converges() {
    if !is_root() {
        return;
    }
    let world = example("shop", "crash", "publish 8081", "publish 18082");
    world.ok(&["build"]);
    let mut boundaries = 0;
    for at in 1..200 {
        let killed = world.command(&["up"]).env("STEAD_TEST_KILL_AT", at.to_string()).output().unwrap();
        if killed.status.signal() != Some(9) {
            assert!(killed.status.success(), "{}", String::from_utf8_lossy(&killed.stderr));
            break;
        }
        boundaries = at;
        // The two cases alternate: the next `up` repairs, or `down` cleans up at once.
        if at % 2 == 0 {
            let up = world.run(&["up"]);
            assert_eq!(up.code, 0, "after a kill at boundary {at}:\n{}", up.err);
            assert!(get("127.0.0.1:18082", "/").unwrap().contains("visits"), "boundary {at}");
            assert_eq!(world.ps().len(), 4, "boundary {at}");
            assert!(world.run(&["up"]).err.contains("nothing to do"), "boundary {at}");
        }
        world.ok(&["down", "--volumes"]);
        world.assert_nothing_left();
    }
    assert!(boundaries > 15, "only {boundaries} boundaries");
}
