//! The rows of the grammar table: every node of the language, with its documentation.

use super::grammar::Kind::{
    Address, Choice, Duration, File, FileOr, FilePattern, Flag, FlagOr, Host, Integer, Mode, Name, Number, Origin, Path, Pattern,
    Permissions, Plain, Ports, Program, Size, Subnet, Text,
};
use super::grammar::{Default, Node, arg, needed, optional, prop, switch};

const PROTOCOLS: &[&str] = &["tcp", "udp"];
const COUNT: super::grammar::Kind = Integer(1, 1_000_000);

const UNSET: Node = Node::new(
    "unset",
    "Takes out what a template, an earlier file or an earlier profile says: a node, one of several by its name or key after a dot, \
     or a variable.",
    "unset \"env.DEBUG\" \"mount./data\" \"healthcheck\"",
)
.args(&[arg("path", Text)])
.rest("paths", Text)
.many();
const WITH: Node = Node::new("with", "Values of the parameters of its `template`.", "with port=8080").free(Plain).many();
const TEMPLATE_PROP: super::grammar::Prop =
    prop("template", Name, "the `template` that it starts from; what is written here counts more");

const LABEL: Node =
    Node::new("label", "Labels: data for other tools, without meaning here.", "label tier=\"front\"").free(Plain).many();
const ENV: Node = Node::new("env", "Environment variables.", "env LANG=\"C.UTF-8\" DEBUG=0").free(Plain).many();
const WORKDIR: Node = Node::new("workdir", "The working directory: an absolute path in the container.", "workdir \"/srv/app\"")
    .args(&[arg("path", Path)]);
const USER: Node = Node::new("user", "Who the process runs as: a name or number, with `:group` if wanted.", "user \"www-data\"")
    .args(&[arg("user", Text)]);
const CMD: Node = Node::new(
    "cmd",
    "The command, one argument per word; with `entrypoint`, its arguments; none if empty.",
    "cmd \"flask\" \"run\"",
)
.rest("words", Text);
const ENTRYPOINT: Node =
    Node::new("entrypoint", "The program that gets `cmd` as arguments; none if empty.", "entrypoint \"/usr/bin/tini\" \"--\"")
        .rest("words", Text);
const EXPOSE: Node = Node::new("expose", "Ports that the program listens on; documentation, opens nothing.", "expose 5000")
    .rest("ports", Ports)
    .props(&[prop("protocol", Choice(&["tcp", "udp", "sctp"]), "the protocol").or(Default::Text("tcp"))])
    .many();
const STOP_SIGNAL: Node = Node::new("stop-signal", "The signal that asks the program to end.", "stop-signal \"QUIT\"")
    .args(&[arg("signal", Text)])
    .or(Default::Follows("the image's, else TERM"));
const EXEC: Node =
    Node::new("exec", "Runs a command in the container; exit status 0 means healthy.", "exec \"redis-cli\" \"ping\"")
        .args(&[arg("word", Program)])
        .rest("words", Text);
const HEALTHCHECK: Node = Node::new(
    "healthcheck",
    "How to check that the container is healthy. `healthcheck \"none\"` disables the image's own check.",
    "healthcheck interval=\"2s\" { exec \"redis-cli\" \"ping\" }",
)
.args(&[super::grammar::Arg { name: "none", kind: Choice(&["none"]), required: false }])
.props(&[
    prop("interval", Duration, "time between two checks").or(Default::Text("10s")),
    prop("timeout", Duration, "a check that takes longer has failed").or(Default::Text("5s")),
    prop("retries", Integer(1, 1000), "failures in a row that make it unhealthy").or(Default::Integer(3)),
    prop("start-period", Duration, "failures within this time of the start do not count").or(Default::Text("0s")),
    prop("start-interval", Duration, "time between checks until the first success").or(Default::Text("250ms")),
])
.children(&[
    EXEC,
    Node::new("http", "Requests a page; a status from 200 to 399 means healthy.", "http 5000 path=\"/health\"")
        .args(&[arg("port", Integer(1, 65535))])
        .props(&[prop("path", Text, "the page").or(Default::Text("/"))]),
    Node::new("tcp", "Connects to a port; a connection means healthy.", "tcp 6379").args(&[arg("port", Integer(1, 65535))]),
])
.one_of(&["none", "exec", "http", "tcp"]);

const DEBIAN: Node = Node::new(
    "debian",
    "Unpacks Debian packages and their dependencies: signed, pinned in the lock file, without a base image.",
    "debian \"bookworm\" { package \"nginx\" }",
)
.args(&[arg("suite", Text)])
.props(&[
    prop("mirror", Origin, "where to fetch from: a URL, or a directory; else the project's `mirror`, the user's or the host's"),
    prop("key", File, "a file with the OpenPGP keys that may sign this suite; else Debian's own"),
    prop("architecture", Text, "only this machine's own is supported"),
])
.children(&[
    Node::new("package", "Names of packages.", "package \"python3-flask\" \"python3-redis\"")
        .args(&[arg("name", Text)])
        .rest("names", Text)
        .props(&[prop("version", Text, "only matching versions, with `*` as a wildcard; the best of them is locked")])
        .many(),
    Node::new(
        "suite",
        "A further suite of the same archive; packages of a NotAutomatic suite are only taken if a `version` asks for them.",
        "suite \"bookworm-backports\"",
    )
    .args(&[arg("suite", Text)])
    .many(),
    Node::new(
        "repository",
        "Another signed repository, whose packages compete with the suite's by version.",
        "repository \"https://packages.example/debian\" suite=\"bookworm\" component=\"main\" key=\"keys/example.asc\"",
    )
    .args(&[arg("place", Origin)])
    .props(&[
        needed("suite", Text, "the suite there"),
        prop("component", Text, "its components, with spaces between them").or(Default::Text("main")),
        needed("key", File, "a file with the OpenPGP keys that may sign it"),
    ])
    .many(),
    Node::new(
        "configure",
        "Whether the packages' own scripts run, in a sandbox without network. If not, what they would have made is made in \
         their place, as far as it is known.",
        "configure #true",
    )
    .args(&[arg("flag", Flag)])
    .or(Default::Flag(false)),
    Node::new("essential", "Whether the suite's Essential packages are installed, too.", "essential #false")
        .args(&[arg("flag", Flag)])
        .or(Default::Flag(true)),
    Node::new("recommends", "Whether recommended packages are installed, too.", "recommends #true")
        .args(&[arg("flag", Flag)])
        .or(Default::Flag(false)),
    Node::new("component", "Components of the archive.", "component \"main\" \"contrib\"")
        .args(&[arg("name", Text)])
        .or(Default::Text("main"))
        .rest("names", Text),
])
.many();

const IMAGE: Node = Node::new(
    "image",
    "An image, built from steps in the order they are written.",
    "image \"app\" {\n    debian \"bookworm\" { package \"python3-flask\" }\n    copy \"app/\" to=\"/srv/app\"\n    cmd \"flask\" \"run\"\n}",
)
.args(&[arg("name", Name)])
.children(&[
    Node::new(
        "from",
        "The image to start from: another `image`, \"scratch\", an image of a registry or of the store (PROJECT/IMAGE), or an archive.",
        "from \"base\"",
    )
    .args(&[optional("image", Text)])
    .props(&[
        prop("archive", File, "an OCI layout (a directory or a tar of one), or what `docker save` wrote"),
        prop("name", Text, "the image's name in the archive, if there are several"),
    ])
    .one_of(&["image", "archive"])
    .children(&[Node::new("signed-by", "The public key (PEM) that must have signed it, as cosign does; an unsigned image is refused.", "signed-by \"keys/vendor.pub\"").args(&[arg("key", File)])]),
    DEBIAN,
    Node::new("dockerfile", "Builds a Dockerfile.", "dockerfile \"Dockerfile\" target=\"prod\" { arg VERSION=\"3\" }")
        .args(&[arg("path", File)])
        .props(&[prop("context", File, "the build context").or(Default::Follows("the Dockerfile's directory")), prop("target", Text, "the stage to build")])
        .children(&[Node::new("arg", "Build arguments.", "arg VERSION=\"3\"").free(Plain).many()]),
    Node::new(
        "copy",
        "Copies files in. A directory copies its contents; a file goes to exactly `to`, or into it when `to` ends in `/`.",
        "copy \"app/\" to=\"/srv/app\"",
    )
    .rest("sources", File)
    .elsewhere(&["from", "context"])
    .props(&[
        needed("to", Path, "where to, absolute or from `workdir`"),
        prop("from", Text, "the image to copy from").or(Default::Follows("the project's directory")),
        prop("owner", Text, "user, or user:group, by name or number").or(Default::Follows("root")),
        prop("mode", Permissions, "permissions of the files, octal or as in chmod; without it 0644, or 0755 for executable files"),
        switch("parents", "keep the sources' directories below `to`"),
        switch("unpack", "unpack archives: tar, plain or compressed with gzip, bzip2, xz or zstd"),
        prop("context", File, "the directory that sources are in").or(Default::Follows("the project's")),
        prop("ignore", File, "the ignore file for `context`"),
        switch("docker", "behave like COPY: permissions are kept, and a file goes into an existing directory"),
        switch("link", "do not look at the image below: none of its links is followed, and a file takes the place of a directory"),
    ])
    .children(&[
        Node::new("exclude", "Patterns of files to leave out.", "exclude \"**/*.md\"").args(&[arg("pattern", Pattern)]).rest("patterns", Pattern).many(),
        Node::new("text", "A file that is written here: its name and its content.", "text \"motd\" \"hello\\n\"").args(&[arg("name", Text), arg("content", Text)]).many(),
    ])
    .many(),
    Node::new(
        "add",
        "Fetches a file of known digest, or a git repository at a commit.",
        "add \"https://example.org/tool.tar.gz\" to=\"/opt/\" sha256=\"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\" unpack=#true",
    )
    .args(&[optional("url", Text)])
    .props(&[
        needed("to", Path, "where to, absolute or from `workdir`; a file goes into it when it ends in `/`"),
        prop("sha256", Text, "the file's digest"),
        switch("unpack", "unpack the archive"),
        prop("git", Text, "a git repository, over HTTP or ssh"),
        prop("commit", Text, "its commit, in full"),
        prop("folder", Path, "a directory of the repository"),
        switch("keep-git", "keep its `.git`, with this one commit"),
        prop("submodules", Flag, "fetch its submodules, too").or(Default::Flag(true)),
        prop("owner", Text, "user, or user:group, by name or number").or(Default::Follows("root")),
        prop("mode", Permissions, "permissions of the files"),
        switch("docker", "behave like ADD: the file's mode is 0600, and it goes into an existing directory"),
        switch("link", "do not look at the image below, as for `copy`"),
    ])
    .children(&[Node::new("exclude", "Patterns of files to leave out.", "exclude \"**/*.md\"").args(&[arg("pattern", Pattern)]).rest("patterns", Pattern).many()])
    .many(),
    Node::new("run", "Runs a command: one string with `shell`, several directly. No network unless asked for.", "run \"make install\" network=#true")
        .args(&[arg("command", Text)])
        .rest("words", Text)
        .props(&[
            prop("network", FlagOr(&["host"]), "give the command network access, through a network of its own; \"host\" for the host's network, with every service on it"),
            switch("privileged", "all capabilities and devices, nothing masked: no protection"),
            prop("user", Text, "the user that runs it").or(Default::Follows("the image's `user` so far")),
            prop("shell", Flag, "whether a shell runs the command").or(Default::Follows("yes if it is a single string")),
        ])
        .children(&[
            Node::new(
                "mount",
                "A mount that exists only while the command runs, and is not part of the image.",
                "mount cache=\"pip\" to=\"/root/.cache/pip\"",
            )
            .props(&[
                needed("to", Path, "where the command finds it"),
                prop("cache", Text, "a directory with this name that is kept for the project's next build"),
                switch("shared", "whether other projects share the cache, and may write anything into it"),
                prop("sharing", Choice(&["shared", "locked", "private"]), "who may use the cache at the same time").or(Default::Text("shared")),
                prop("secret", Text, "a `secret` of the project, as a file"),
                prop("env", Text, "the variable that holds the secret"),
                prop("file", Flag, "whether the secret is a file").or(Default::Flag(true)),
                prop("required", Flag, "whether it must be there").or(Default::Flag(true)),
                switch("ssh", "the socket of your ssh agent"),
                switch("tmpfs", "an empty directory in memory"),
                prop("size", Size, "how much the tmpfs may hold"),
                prop("image", Text, "an image, read-only; with `cache`, its initial content"),
                prop("subpath", Path, "a path inside the image or context"),
                prop("context", File, "a directory of the project"),
                prop("ignore", File, "the ignore file for `context`"),
                prop("script", Text, "a program that is written here"),
                prop("writable", Flag, "allow writing; what is written is discarded, except in a cache").or(Default::Follows("yes for a cache and a tmpfs")),
                prop("mode", Mode, "permissions of the secret or cache").or(Default::Follows("0400 for a secret, 0755 for a cache")),
                prop("owner", Text, "numbers of user and group, as in \"33:33\", of the secret or cache"),
            ])
            .many(),
            Node::new("env", "Variables for this command only.", "env CI=1").free(Plain).many(),
        ])
        .many(),
    Node::new("folder", "Creates a directory owned by the image's `user` so far, unless something exists there.", "folder \"/srv/app\"").args(&[arg("path", Path)]).many(),
    ENV,
    WORKDIR.many(),
    USER.many(),
    CMD,
    ENTRYPOINT,
    EXPOSE,
    LABEL,
    Node::new("volume", "Paths that hold data: a container with nothing mounted there has a volume there, which outlives it.", "volume \"/var/lib/app\"").args(&[arg("path", Path)]).rest("paths", Path).many(),
    STOP_SIGNAL,
    HEALTHCHECK,
    Node::new("shell", "The shell for a `run` of one string.", "shell \"/bin/bash\" \"-ec\"").args(&[arg("word", Text)]).or(Default::Follows("`/bin/sh -c`")).rest("words", Text).many(),
    Node::new("squash", "Whether the layers of this image's own steps are merged into one.", "squash #true").args(&[arg("flag", Flag)]).or(Default::Flag(false)),
    Node::new("author", "Who wrote the image: text in its configuration for other tools; without it, the base's.", "author \"Jo <jo@example.org>\"").args(&[arg("name", Text)]),
    Node::new("onbuild", "A Dockerfile instruction for images that start from this one.", "onbuild \"RUN make\"").args(&[arg("instruction", Text)]).many(),
    Node::new("arg", "Environment variables for the `run` steps below it, and not for the container.", "arg DEBIAN_FRONTEND=\"noninteractive\"").free(Plain).many(),
    UNSET,
])
.many();

const LIMITS: Node =
    Node::new("limits", "Limits on what the container may use.", "limits { cpus 1.5; memory \"256MiB\"; pids 100; }")
        .or(Default::Bare)
        .children(&[
            Node::new("cpus", "Processor time, in processors.", "cpus 1.5").args(&[arg("processors", Number)]),
            Node::new("cpu-weight", "Share of the processors under load, from 1 to 10000.", "cpu-weight 200")
                .args(&[arg("weight", Integer(1, 10000))])
                .or(Default::Follows("the kernel's, which is 100")),
            Node::new("cpuset", "Which processors, as a list of numbers and ranges.", "cpuset \"0-1\"")
                .args(&[arg("processors", Text)]),
            Node::new("memory", "Memory; at least 6MiB.", "memory \"256MiB\"").args(&[arg("size", Size)]),
            Node::new(
                "memory-reservation",
                "Memory that is kept for it when the host runs short.",
                "memory-reservation \"128MiB\"",
            )
            .args(&[arg("size", Size)]),
            Node::new("swap", "Swap space in addition to the memory.", "swap \"0B\"")
                .args(&[arg("size", Size)])
                .or(Default::Follows("as much as the host has")),
            Node::new("pids", "Processes and threads.", "pids 100").args(&[arg("count", COUNT)]),
            Node::new(
                "io",
                "Rates and share of a block device. On cgroup v1, write rates hold for direct I/O only.",
                "io \"/dev/sda\" read=\"10MiB\"",
            )
            .args(&[arg("device", Path)])
            .props(&[
                prop("read", Size, "bytes read per second"),
                prop("write", Size, "bytes written per second"),
                prop("read-operations", COUNT, "reads per second"),
                prop("write-operations", COUNT, "writes per second"),
                prop("weight", Integer(1, 1000), "share under load, where BFQ or iocost is active").or(Default::Follows("100")),
            ])
            .many(),
            Node::new("hugepages", "Memory in huge pages of this size.", "hugepages \"2MiB\" limit=\"64MiB\"")
                .args(&[arg("page", Size)])
                .props(&[needed("limit", Size, "how much of it")])
                .many(),
            Node::new("ulimit", "A resource limit of each process (setrlimit(2)).", "ulimit \"nofile\" soft=1024 hard=2048")
                .args(&[arg("name", Choice(ULIMITS))])
                .props(&[
                    prop("soft", Integer(0, i64::MAX as i128), "the limit").or(Default::Follows("`hard`")),
                    prop("hard", Integer(0, i64::MAX as i128), "how far a process may raise it").or(Default::Follows("`soft`")),
                ])
                .many(),
            Node::new(
                "oom-score",
                "Who is killed first when the host is out of memory: from -1000 (never) to 1000.",
                "oom-score 500",
            )
            .args(&[arg("score", Integer(-1000, 1000))]),
            Node::new("shm", "The size of /dev/shm.", "shm \"128MiB\"").args(&[arg("size", Size)]).or(Default::Text("64MiB")),
            Node::new("egress", "Outgoing bandwidth, bytes per second.", "egress \"10MiB\"").args(&[arg("rate", Size)]).later(),
            Node::new("ingress", "Incoming bandwidth, bytes per second.", "ingress \"10MiB\"").args(&[arg("rate", Size)]).later(),
            Node::new(
                "log",
                "Disk space for its logs; the oldest lines are deleted first. By default, `log`'s size times files.",
                "log \"100MiB\"",
            )
            .args(&[arg("size", Size)]),
        ]);

const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

const SECURITY: Node = Node::new(
    "security",
    "What the container is trusted with, beyond or below Docker's defaults. The plan marks what extends them.",
    "security { capability add=\"NET_ADMIN\" drop=\"NET_RAW\"; no-new-privileges #true; }",
)
.or(Default::Bare)
.children(&[
    Node::new("seccomp", "The system call filter: \"unconfined\", or a file in Docker's format.", "seccomp \"profile.json\"")
        .args(&[arg("profile", FileOr(&["unconfined"]))])
        .or(Default::Follows("Docker's default profile")),
    Node::new(
        "capability",
        "Capabilities to add to or drop from Docker's defaults; \"ALL\" means all.",
        "capability add=\"NET_ADMIN\"",
    )
    .props(&[prop("add", Text, "one to add"), prop("drop", Text, "one to drop")])
    .many(),
    Node::new("no-new-privileges", "Programs gain nothing by setuid or file capabilities.", "no-new-privileges #true")
        .args(&[arg("flag", Flag)])
        .or(Default::Flag(false)),
    Node::new("privileged", "All capabilities and devices, nothing masked: no protection.", "privileged #true")
        .args(&[arg("flag", Flag)])
        .or(Default::Flag(false)),
    Node::new("read-only", "The root file system cannot be written.", "read-only #true")
        .args(&[arg("flag", Flag)])
        .or(Default::Flag(false)),
]);

const LOG_DRIVERS: &[&str] = &["journald", "syslog", "otlp", "json-file", "none"];

const ENV_FILE: Node = Node::new(
    "env-file",
    "A file of NAME=value lines, by Compose's rules; but `$` stands for itself, and a name needs a value.",
    "env-file \"settings.env\"",
)
.args(&[arg("path", File)])
.props(&[prop("required", Flag, "whether the file must be there").or(Default::Flag(true))])
.many();

const GROUP_ADD: Node = Node::new("group-add", "Supplementary groups.", "group-add \"audio\"")
    .args(&[arg("group", Text)])
    .rest("groups", Text)
    .many();

const ATTACHMENT: Node = Node::new("network", "The networks that it is on.", "network \"front\" \"back\"")
    .args(&[arg("name", Name)])
    .or(Default::Follows("the project's network `default`"))
    .rest("names", Name)
    .props(&[
        prop("alias", Host, "a further name for it there"),
        prop("address", Address, "its address there (one replica only)"),
    ])
    .many();

const MOUNT: Node = Node::new(
    "mount",
    "Puts a volume, a directory of the host, or an image's files at a path.",
    "mount volume=\"data\" to=\"/data\"",
)
.props(&[
    prop("volume", Name, "a `volume` of the project"),
    prop("bind", File, "a path of the host"),
    prop("image", Name, "an `image` of the project, read-only"),
    needed("to", Path, "the path in the container"),
    switch("read-only", "whether it is read-only"),
    prop("subpath", Path, "a path inside the volume or image"),
    switch("create", "create the host's directory if it does not exist"),
    prop("propagation", Choice(&["private", "slave", "shared"]), "how mounts in it propagate").or(Default::Text("private")),
])
.many();

const TMPFS: Node = Node::new("tmpfs", "A file system in memory.", "tmpfs \"/tmp\" size=\"64MiB\"")
    .args(&[arg("path", Path)])
    .props(&[
        prop("size", Size, "its size").or(Default::Follows("half of the memory")),
        prop("mode", Mode, "permissions").or(Default::Text("1777")),
    ])
    .many();

const SECRET_FILE: Node = Node::new("secret", "A `secret`, as a file in memory.", "secret \"token\" owner=\"www-data\"")
    .args(&[arg("name", Name)])
    .props(&[
        prop("to", Path, "its path").or(Default::Follows("/run/secrets/NAME")),
        prop("mode", Mode, "permissions").or(Default::Text("0400")),
        prop("owner", Text, "user, or user:group").or(Default::Follows("the container's user")),
    ])
    .many();

const CONFIG_FILE: Node = Node::new("config", "A `config`, as a read-only file.", "config \"motd\" to=\"/etc/motd\"")
    .args(&[arg("name", Name)])
    .props(&[
        prop("to", Path, "its path").or(Default::Follows("/run/configs/NAME")),
        prop("mode", Mode, "permissions").or(Default::Text("0444")),
        prop("owner", Text, "user, or user:group").or(Default::Follows("root")),
    ])
    .many();

const DEPENDS_ON: Node = Node::new(
    "depends-on",
    "A container that must be up first, or a job that must be done.",
    "depends-on \"cache\" until=\"healthy\"",
)
.args(&[arg("container", Name)])
.props(&[prop(
    "until",
    Choice(&["started", "healthy", "done", "completed"]),
    "what to wait for; \"done\" and \"completed\" both mean: until its command has ended with exit status 0",
)
.or(Default::Follows("\"started\"; for a job \"done\", which is all that there is to wait for"))])
.many();

const STOP_GRACE: Node = Node::new("stop-grace", "How long it may take to end before it is killed.", "stop-grace \"30s\"")
    .args(&[arg("time", Duration)])
    .or(Default::Text("10s"));

const CONTAINER_CHILDREN: &[Node] = &[
    Node::new("image", "The image: an `image` of the project, or a registry reference.", "image \"app\"")
        .args(&[arg("image", Text)]),
    CMD,
    ENTRYPOINT,
    ENV,
    ENV_FILE,
    WORKDIR,
    USER,
    GROUP_ADD,
    Node::new("hostname", "The host name.", "hostname \"web.example.com\"").args(&[arg("name", Host)]).or(Default::Follows("the container's name")),
    Node::new("replicas", "Number of replicas.", "replicas 2").args(&[arg("count", Integer(0, 1000))]).or(Default::Integer(1)),
    Node::new(
        "update",
        "How replicas that run are replaced: some at a time, and the next only when those have come up (healthy; without a health \
         check, running for a moment). If one does not come up, the others go on as they were. Without this node all are stopped, \
         then all are started.",
        "update { order \"start-first\"; parallel 2; }",
    )
    .children(&[
        Node::new(
            "order",
            "\"start-first\" starts further replicas that serve while others are replaced, so that no request to a published port \
             is lost; they are numbered after the last one, and end when all are replaced.",
            "order \"start-first\"",
        )
        .args(&[arg("order", Choice(&["stop-first", "start-first"]))])
        .or(Default::Text("stop-first")),
        Node::new("parallel", "How many are replaced at once.", "parallel 2")
            .args(&[arg("count", Integer(1, 1000))])
            .or(Default::Integer(1)),
    ]),
    ATTACHMENT,
    Node::new(
        "publish",
        "A port of the host that leads to the container; on loopback unless an address is given.",
        "publish 8080 to=5000",
    )
    .args(&[arg("port", Ports)])
    .props(&[
        prop("to", Ports, "the container's port").or(Default::Follows("the same")),
        prop("address", Address, "the host's address, \"0.0.0.0\" for all").or(Default::Text("127.0.0.1")),
        prop("protocol", Choice(PROTOCOLS), "the protocol").or(Default::Text("tcp")),
    ])
    .many(),
    EXPOSE,
    MOUNT,
    TMPFS,
    SECRET_FILE,
    CONFIG_FILE,
    DEPENDS_ON,
    HEALTHCHECK,
    Node::new("restart", "When it is restarted after it has ended.", "restart \"on-failure\" max=5")
        .args(&[arg("policy", Choice(&["no", "on-failure", "always", "unless-stopped"]))])
        .or(Default::Text("no"))
        .props(&[
            prop("max", Integer(1, 1_000_000), "the most restarts in a row (on-failure only)"),
            switch("unhealthy", "also when it becomes unhealthy"),
        ]),
    LIMITS,
    SECURITY,
    Node::new("device", "A device of the host.", "device \"/dev/fuse\"")
        .args(&[arg("path", Path)])
        .props(&[prop("to", Path, "its path in the container").or(Default::Follows("the same"))])
        .many(),
    Node::new("sysctl", "Kernel settings of the container's own namespaces.", "sysctl net.core.somaxconn=1024")
        .free(Plain)
        .many(),
    STOP_SIGNAL,
    STOP_GRACE,
    Node::new("init", "Whether a small init runs as process 1, forwards signals and reaps zombies.", "init #true").args(&[arg("flag", Flag)]).or(Default::Flag(false)),
    Node::new("tty", "Whether it has a terminal.", "tty #true").args(&[arg("flag", Flag)]).or(Default::Flag(false)),
    Node::new("log", "How much of its output is kept, and where else it goes.", "log size=\"20MiB\" files=5")
        .or(Default::Bare)
        .props(&[
            prop("size", Size, "the size of a file at which the next one is begun").or(Default::Text("20MiB")),
            prop("files", Integer(1, 1000), "how many are kept").or(Default::Integer(5)),
        ])
        .children(&[Node::new(
            "driver",
            "Where its lines go besides `stead logs`, forwarded by one process for the project; \"none\" keeps no lines at all.",
            "driver \"syslog\" address=\"udp://127.0.0.1:514\"",
        )
        .args(&[arg("name", Choice(LOG_DRIVERS))])
        .props(&[prop(
            "address",
            Origin,
            "where to: for syslog udp://HOST:PORT, tcp://HOST:PORT or a socket's path (/dev/log if not given); for otlp the collector's URL (http://127.0.0.1:4318 if not given); for json-file the file",
        )])]),
    Node::new("dns", "The name servers that it asks, at most three.", "dns \"10.0.0.1\"")
        .args(&[arg("address", Address)])
        .or(Default::Follows("those of the host that it reaches"))
        .rest("addresses", Address),
    Node::new(
        "extra-host",
        "A further line of /etc/hosts; the address \"host-gateway\" is the host's.",
        "extra-host \"db\" \"10.0.0.5\"",
    )
    .args(&[arg("name", Text), arg("address", Text)])
    .many(),
    LABEL,
    Node::new("namespace", "Namespaces that are not its own.", "namespace network=\"host\"").props(&[
        prop("network", Choice(&["host", "none"]), "\"host\" for the host's network, \"none\" for no network"),
        prop("pid", Choice(&["host"]), "\"host\" to see the host's processes"),
        prop("ipc", Choice(&["host"]), "\"host\" for the host's shared memory"),
    ]),
    Node::new(
        "watch",
        "What `stead watch` does when files change: every rule that matches applies. What the image copies is watched without a rule; \"none\" switches that off.",
        "watch { sync \"app/\" to=\"/srv/app\"; restart \"app/settings.py\" }",
    )
    .args(&[optional("none", Choice(&["none"]))])
    .children(&[
        Node::new("sync", "Keeps a path in the container equal to a file or directory.", "sync \"app/\" to=\"/srv/app\"")
            .args(&[arg("path", File)])
            .props(&[needed("to", Path, "the path in the container")])
            .many(),
        Node::new("restart", "Starts the container's process again, with the same files.", "restart \"app/settings.py\"")
            .args(&[arg("path", File)])
            .many(),
        Node::new("sync-restart", "`sync`, then `restart`.", "sync-restart \"settings/\" to=\"/etc/app\"")
            .args(&[arg("path", File)])
            .props(&[needed("to", Path, "the path in the container")])
            .many(),
        Node::new(
            "sync-exec",
            "`sync`, then a command in the container.",
            "sync-exec \"nginx.conf\" to=\"/etc/nginx/nginx.conf\" { exec \"nginx\" \"-s\" \"reload\" }",
        )
        .args(&[arg("path", File)])
        .props(&[needed("to", Path, "the path in the container")])
        .children(&[EXEC])
        .many(),
        Node::new("rebuild", "Builds the image, and replaces the container if it is another one.", "rebuild \"requirements.txt\"")
            .args(&[arg("path", File)])
            .many(),
        Node::new("ignore", "Patterns of files whose change means nothing for the container, as in a .gitignore.", "ignore \"*.log\" \"node_modules/\"")
            .args(&[arg("pattern", FilePattern)])
            .rest("patterns", FilePattern)
            .many(),
        Node::new("include", "Patterns of the only files whose change means something.", "include \"*.py\"")
            .args(&[arg("pattern", FilePattern)])
            .rest("patterns", FilePattern)
            .many(),
    ]),
    Node::new("on", "A command to run in the container after its start or before its stop. What it starts ends with it, and what it says is in the log.", "on \"start\" { exec \"warm-up\" }")
        .args(&[arg("event", Choice(&["start", "stop"]))])
        .children(&[EXEC])
        .many(),
    WITH,
    UNSET,
];

const CONTAINER: Node = Node::new(
    "container",
    "A container that runs as long as the environment is up.",
    "container \"web\" {\n    image \"app\"\n    publish 8080 to=5000\n}",
)
.args(&[arg("name", Name)])
.props(&[TEMPLATE_PROP])
.children(CONTAINER_CHILDREN)
.many();

/// The nodes of a template: a container's, and its parameters.
const TEMPLATE_CHILDREN: &[Node] = &{
    let mut all = [TEMPLATE_PARAM; CONTAINER_CHILDREN.len() + 1];
    let mut at = 0;
    while at < CONTAINER_CHILDREN.len() {
        all[at + 1] = CONTAINER_CHILDREN[at];
        at += 1;
    }
    all
};

const TEMPLATE: Node = Node::new(
    "template",
    "What containers and jobs have in common: its nodes are their defaults, and what they write themselves counts more, as in a \
     profile. Its parameters get their values from `with`, and count before those of the project.",
    "template \"python-service\" {\n    param \"port\" type=\"port\" default=8080\n    image \"app\"\n    publish \"${port}\"\n}",
)
.args(&[arg("name", Name)])
.props(&[prop("template", Name, "another template that it starts from")])
.children(TEMPLATE_CHILDREN)
.many();

const VALUES: Node = Node::new("values", "The only values that it may have.", "values \"debug\" \"info\"")
    .args(&[arg("value", Plain)])
    .rest("values", Plain);
const TYPE: super::grammar::Prop =
    prop("type", Choice(&["string", "integer", "boolean", "size", "duration", "port"]), "what its values are")
        .or(Default::Text("string"));

const TEMPLATE_PARAM: Node = Node::new(
    "param",
    "A parameter of the template, used as ${name} in it; whoever uses the template gives its value in `with`.",
    "param \"port\" type=\"port\" default=8080",
)
.args(&[arg("name", Name)])
.props(&[TYPE, prop("default", Plain, "its value if `with` gives none")])
.children(&[VALUES])
.many();

const PARAM: Node = Node::new(
    "param",
    "A parameter, used as ${name}, or as ${name:-text} with a text for the case that it has no value; values from outside can only \
     come in this way. The value is that of `--set`, else of the variable in the environment, else of the variable in the file \
     `.env` beside the project file, else the default.",
    "param \"tag\" default=\"dev\" env=\"SHOP_TAG\"",
)
.args(&[arg("name", Name)])
.props(&[
    TYPE,
    prop("default", Plain, "its value if nothing else gives one"),
    prop("env", Text, "the variable of the environment, or of `.env`, that gives it"),
])
.children(&[VALUES])
.many();

const JOB: Node = Node::new(
    "job",
    "A command that runs to its end before whatever depends on it, and once for the same inputs: it runs again when it failed, \
     or when its definition, its image, its inputs or a volume of its own is another one.",
    "job \"migrate\" { image \"app\"; cmd \"migrate\"; inputs \"migrations/\" }",
)
.args(&[arg("name", Name)])
.props(&[TEMPLATE_PROP])
.children(&[
    Node::new("image", "The image: an `image` of the project, or a registry reference.", "image \"app\"")
        .args(&[arg("image", Text)]),
    CMD,
    ENTRYPOINT,
    Node::new("inputs", "Files and directories of the project whose changes make it run again.", "inputs \"migrations/\"")
        .args(&[arg("path", File)])
        .rest("paths", File)
        .many(),
    Node::new("timeout", "How long it may take before it is killed and has failed.", "timeout \"10m\"")
        .args(&[arg("time", Duration)])
        .or(Default::Follows("as long as it takes")),
    ENV,
    ENV_FILE,
    WORKDIR,
    USER,
    GROUP_ADD,
    ATTACHMENT,
    MOUNT,
    TMPFS,
    SECRET_FILE,
    CONFIG_FILE,
    DEPENDS_ON,
    LIMITS,
    SECURITY,
    STOP_GRACE,
    LABEL,
    WITH,
    UNSET,
])
.many();

const TASK: Node = Node::new(
    "task",
    "A command with a name: `stead run NAME` runs it in a new container with another container's definition.",
    "task \"migrate\" { container \"web\"; cmd \"flask\" \"db\" \"upgrade\"; }",
)
.args(&[arg("name", Name)])
.children(&[
    Node::new("container", "The container whose definition it runs with.", "container \"web\"").args(&[arg("name", Name)]),
    CMD,
    ENV,
    WORKDIR,
    USER,
    UNSET,
])
.many();

const NETWORK: Node = Node::new("network", "A network of the project.", "network \"back\" internal=#true")
    .args(&[arg("name", Name)])
    .props(&[
        switch("internal", "no connections to the outside"),
        prop("subnet", Subnet, "its addresses").or(Default::Follows("derived from the project's identity")),
        prop("gateway", Address, "the host's address on it").or(Default::Follows("the first")),
        prop("mtu", Integer(1280, 65535), "the largest packet").or(Default::Follows("1500")),
        prop("external", Text, "the name of an existing bridge of the host to use instead"),
    ])
    .children(&[
        LABEL,
        Node::new("ipv6", "IPv6 addresses.", "ipv6 #true").args(&[arg("flag", Flag)]).later(),
        Node::new("driver", "Another kind of network.", "driver \"macvlan\"").args(&[arg("name", Text)]).later(),
        Node::new("egress", "What may be reached from it.", "egress \"example.org\"")
            .args(&[arg("name", Text)])
            .rest("names", Text)
            .many()
            .later(),
        UNSET,
    ])
    .many();

const SEED: Node = Node::new(
    "seed",
    "Fills the volume once, by a job that mounts it; whatever else mounts it waits for that. The state after the job is kept by what \
     the job is made from: `stead volume reset` brings it back, and another directory of the project begins with it.",
    "seed from=\"job:load\"",
)
.props(&[needed("from", Text, "`job:` and the name of a job")]);

const VOLUME: Node = Node::new("volume", "Data that outlives containers.", "volume \"data\"")
    .args(&[arg("name", Name)])
    .children(&[LABEL, SEED])
    .many();
const SECRET: Node = Node::new("secret", "Confidential data from a file.", "secret \"token\" file=\"secrets/token\"")
    .args(&[arg("name", Name)])
    .props(&[needed("file", File, "the file")])
    .many();
const CONFIG: Node =
    Node::new("config", "A file for containers, from a file or written here.", "config \"motd\" { content \"hello\" }")
        .args(&[arg("name", Name)])
        .props(&[prop("file", File, "the file")])
        .children(&[Node::new("content", "Its content.", "content \"hello\"").args(&[arg("text", Text)])])
        .one_of(&["file", "content"])
        .many();

/// The top-level nodes of a project file.
pub const TOP: &[Node] = &[
    Node::new("project", "The project's name.", "project \"shop\"").args(&[arg("name", Name)]),
    Node::new(
        "include",
        "Another file of the project, whose nodes are read here. Paths in it are relative to it.",
        "include \"database.kdl\"",
    )
    .args(&[arg("path", Path)])
    .many(),
    PARAM,
    Node::new("mirror", "Where Debian packages come from: URLs, or a directory.", "mirror \"vendor/debian\"")
        .args(&[arg("place", Origin)])
        .rest("places", Origin)
        .props(&[prop("suite", Text, "only for this suite")])
        .many(),
    IMAGE,
    CONTAINER,
    JOB,
    NETWORK,
    VOLUME,
    SECRET,
    CONFIG,
    TASK,
    TEMPLATE,
    Node::new(
        "profile",
        "Changes that apply with `--profile NAME`: nodes override matching ones, or are added; `unset` takes something out. Of \
         several profiles the one that is named last counts most.",
        "profile \"ci\" { container \"web\" { replicas 1; unset \"publish\" }; unset \"container.debugger\" }",
    )
    .args(&[arg("name", Name)])
    .children(&[IMAGE, CONTAINER, JOB, NETWORK, VOLUME, SECRET, CONFIG, TASK, TEMPLATE, PARAM, UNSET])
    .many(),
    UNSET,
];
