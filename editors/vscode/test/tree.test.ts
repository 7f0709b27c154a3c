import assert from "node:assert/strict";
import { test } from "node:test";
import { items, parse } from "../src/tree";

const LIST = JSON.stringify({
    version: 1,
    containers: [
        { name: "web-10", image: "app", state: "running", health: "healthy", ports: [] },
        { name: "web-2", image: "app", state: "running", health: "unhealthy", ports: [
            { address: "0.0.0.0", port: 8080, to: 80, protocol: "tcp", web: true },
            { address: "127.0.0.1", port: 6379, to: 6379, protocol: "tcp", web: false },
        ] },
        { name: "job-1", image: "app", state: "exited", health: "none", ports: [] },
    ],
});

test("containers are lines of the tree, in the order of their numbers", () => {
    const found = items(parse(LIST));
    assert.deepEqual(found.map((one) => one.label), ["job-1", "web-2", "web-10"]);
    assert.deepEqual(found.map((one) => one.icon), ["circle-outline", "error", "pass-filled"]);
    assert.equal(found[1]?.description, "unhealthy  127.0.0.1:8080  127.0.0.1:6379");
    assert.deepEqual(found[1]?.links, ["http://127.0.0.1:8080/"]);
    assert.match(found[0]?.tooltip ?? "", /exited$/);
});

test("what is no such list is an error", () => {
    assert.throws(() => parse("nothing to see"), SyntaxError);
    assert.throws(() => parse('{"version":2,"containers":[]}'), /another list/);
    assert.throws(() => parse('{"version":1,"containers":[{}]}'), /without name/);
});
