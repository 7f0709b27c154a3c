;;; test.el --- Tests of stead.el  -*- lexical-binding: t; -*-
(require 'ert)

(defmacro stead-test-with (text &rest body)
  "Run BODY in a buffer of the mode with TEXT."
  (declare (indent 1))
  `(with-temp-buffer (insert ,text) (stead-mode) (font-lock-ensure) (goto-char (point-min)) ,@body))

(ert-deftest stead-files-have-the-mode ()
  (dolist (name '("/x/stead.kdl" "/x/web.stead.kdl"))
    (should (eq (assoc-default name auto-mode-alist #'string-match) 'stead-mode)))
  (should-not (eq (assoc-default "/x/instead.kdl" auto-mode-alist #'string-match) 'stead-mode)))

(ert-deftest stead-words-have-their-faces ()
  (stead-test-with "network \"back\" internal=#true // x\n"
    (let ((face (lambda (word) (goto-char (point-min)) (search-forward word)
                  (get-text-property (1- (point)) 'face))))
      (should (eq (funcall face "network") 'font-lock-keyword-face))
      (should (eq (funcall face "back") 'font-lock-string-face))
      (should (eq (funcall face "internal") 'font-lock-variable-name-face))
      (should (eq (funcall face "#true") 'font-lock-constant-face))
      (should (eq (funcall face "// x") 'font-lock-comment-face)))))

(ert-deftest stead-lines-are-indented-by-their-blocks ()
  (stead-test-with "container \"c\" {\nlimits {\npids 1\n}\n}\n"
    (indent-region (point-min) (point-max))
    (should (equal (buffer-string) "container \"c\" {\n    limits {\n        pids 1\n    }\n}\n"))))

(ert-deftest stead-commands-have-their-words ()
  (should (equal (stead-words "up") '("sudo" "stead" "up")))
  (should (equal (stead-words "why" "web") '("stead" "why" "web"))))
;;; test.el ends here
