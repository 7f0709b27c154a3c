(node_children) @indent.begin @indent
"}" @indent.branch @indent.end @outdent
