(document) @local.scope
(node_children) @local.scope
