// The command lines that the extension runs. Nothing here needs VS Code.

/** The settings of the extension. */
export interface Settings {
    /** The program. */
    path: string;
    /** Whether what needs root is run with sudo. */
    sudo: boolean;
}

/** What the extension can do in a terminal. */
export type Action = "up" | "down" | "logs" | "why";

/** Commands that work without root. */
const WITHOUT_ROOT: ReadonlySet<string> = new Set(["why", "lsp"]);

/** The words of a command; those before the program are sudo's. */
export function words(action: Action, name: string | undefined, settings: Settings): string[] {
    const command = action === "logs" ? ["logs", "--follow"] : [action];
    // A name never begins with a hyphen, but what is clicked on comes from a list that a program printed.
    const after = name === undefined ? [] : [named(name)];
    return [...root(action, settings), settings.path, ...command, ...after];
}

/** The words that list the containers, without ever asking for a password. */
export function listing(settings: Settings): string[] {
    return [...(settings.sudo ? ["sudo", "-n"] : []), settings.path, "ps", "--all", "--json"];
}

/** The words that start the language server. */
export function server(settings: Settings): { command: string; args: string[] } {
    return { command: settings.path, args: ["lsp"] };
}

function root(action: string, settings: Settings): string[] {
    return settings.sudo && !WITHOUT_ROOT.has(action) ? ["sudo"] : [];
}

function named(name: string): string {
    if (!/^[a-z][a-z0-9-]*$/.test(name)) {
        throw new Error(`${JSON.stringify(name)} is no name of a container`);
    }
    return name;
}

/** A word as a shell reads it. */
export function quoted(word: string): string {
    return /^[A-Za-z0-9_\/.:=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
