; Colours, for the grammar of KDL (tree-sitter-kdl).
(node (identifier) @keyword)
(prop (identifier) @property)
(type (identifier) @type)
(string) @string
(escape) @string.escape
(number) @number
(boolean) @boolean
(keyword) @constant.builtin
(single_line_comment) @comment
(multi_line_comment) @comment
[ "{" "}" ] @punctuation.bracket
"=" @operator
";" @punctuation.delimiter

; The names of what is declared.
((node
  (identifier) @_word
  (node_field (value (string) @label)))
  (#any-of? @_word "image" "container" "job" "network" "volume" "secret" "config" "task" "profile" "param"))
