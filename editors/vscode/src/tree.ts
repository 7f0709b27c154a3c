// The tree of containers, from what `stead ps --all --json` prints. Nothing here needs VS Code.

/** A container as `stead ps --json` lists it; what the tree does not use is left out. */
export interface Container {
    name: string;
    image: string;
    state: string;
    /** What its health check says; none if it has no check. */
    health?: string;
    ports: Port[];
}

/** A published port. */
export interface Port {
    /** `127.0.0.1:8080`. */
    place: string;
    /** Whether it serves web pages, as far as is known. */
    web: boolean;
}

/** A line of the tree. */
export interface Item {
    /** The name of the replica. */
    label: string;
    /** What is beside the name. */
    description: string;
    tooltip: string;
    /** The name of one of VS Code's icons. */
    icon: string;
    /** The addresses that lead to it. */
    links: string[];
}

/** The containers that a program printed. Whatever else it printed is an error. */
export function parse(text: string): Container[] {
    const value: unknown = JSON.parse(text);
    const list = field(value, "containers");
    if (field(value, "version") !== 1 || !Array.isArray(list)) {
        throw new Error("this version of stead prints another list of containers");
    }
    return list.map((one: unknown) => {
        const health = field(one, "health");
        return {
            name: text_of(one, "name"),
            image: text_of(one, "image"),
            state: text_of(one, "state"),
            health: typeof health === "string" && health !== "none" ? health : undefined,
            ports: ports(field(one, "ports")),
        };
    });
}

/** The lines of the tree, in the order of the names. */
export function items(containers: Container[]): Item[] {
    const sorted = [...containers].sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
    return sorted.map((one) => ({
        label: one.name,
        description: [one.state === "running" ? one.health ?? one.state : one.state, ...one.ports.map((port) => port.place)].join("  "),
        tooltip: `${one.name}\n${one.image}\n${one.state}${one.health ? `, ${one.health}` : ""}`,
        icon: icon(one),
        links: one.ports.filter((port) => port.web).map((port) => `http://${port.place}/`),
    }));
}

function icon(one: Container): string {
    if (one.state === "dead" || one.health === "unhealthy") {
        return "error";
    }
    if (one.state !== "running") {
        return one.state === "paused" ? "debug-pause" : "circle-outline";
    }
    return one.health === "starting" ? "loading~spin" : "pass-filled";
}

function ports(value: unknown): Port[] {
    if (!Array.isArray(value)) {
        throw new Error("a container without ports");
    }
    return value.map((one: unknown) => {
        const [address, port] = [field(one, "address"), field(one, "port")];
        if (typeof address !== "string" || typeof port !== "number") {
            throw new Error("a port without its address");
        }
        // What listens everywhere is reached here, too.
        return { place: `${address === "0.0.0.0" ? "127.0.0.1" : address}:${port}`, web: field(one, "web") === true };
    });
}

function field(value: unknown, name: string): unknown {
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

function text_of(value: unknown, name: string): string {
    const found = field(value, name);
    if (typeof found !== "string") {
        throw new Error(`a container without ${name}`);
    }
    return found;
}
