(node_children) @fold
(multi_line_comment) @fold
