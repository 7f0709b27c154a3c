;;; stead.el --- Project files of stead  -*- lexical-binding: t; -*-

;; Version: 0.1.0
;; Package-Requires: ((emacs "29.1"))
;; Keywords: languages, tools

;;; Commentary:

;; A mode for stead.kdl, with the language server by eglot, and commands that run `stead' in a compilation buffer.

;;; Code:

(require 'compile)

(defgroup stead nil "Containers beside the code." :group 'tools)

(defcustom stead-program '("stead")
  "The words of the program." :type '(repeat string))

(defcustom stead-root '("sudo")
  "The words before commands that need root." :type '(repeat string))

(defvar stead-mode-syntax-table
  (let ((table (make-syntax-table)))
    (modify-syntax-entry ?/ ". 124b" table)
    (modify-syntax-entry ?* ". 23n" table)
    (modify-syntax-entry ?\n "> b" table)
    (modify-syntax-entry ?\" "\"" table)
    (modify-syntax-entry ?- "_" table)
    (modify-syntax-entry ?{ "(}" table)
    (modify-syntax-entry ?} "){" table)
    table))

(defvar stead-font-lock-keywords
  '(("\\(?:^\\|[{;]\\)[ \t]*\\([A-Za-z_][A-Za-z0-9_-]*\\)\\(?:[ \t;{}]\\|$\\)" 1 font-lock-keyword-face)
    ("\\_<\\([A-Za-z_][A-Za-z0-9_.-]*\\)=" 1 font-lock-variable-name-face)
    ("#\\(?:true\\|false\\|null\\)\\_>" 0 font-lock-constant-face)
    ("\\${[^}\"]*}" 0 font-lock-preprocessor-face prepend)))

(defun stead-indent-line ()
  "Indent a line by the blocks that it is in."
  (interactive)
  (let* ((depth (save-excursion
                  (back-to-indentation)
                  (let ((depth (car (syntax-ppss))))
                    (if (eq (char-after) ?}) (1- depth) depth))))
         (at (- (current-column) (current-indentation))))
    (unless (nth 3 (syntax-ppss (line-beginning-position)))
      (indent-line-to (* 4 (max 0 depth)))
      (when (> at 0) (move-to-column (+ (current-indentation) at))))))

;;;###autoload
(define-derived-mode stead-mode prog-mode "stead"
  "A mode for project files of stead."
  (setq-local comment-start "// " comment-start-skip "//+[ \t]*" comment-end "")
  (setq-local font-lock-defaults '(stead-font-lock-keywords))
  (setq-local indent-line-function #'stead-indent-line indent-tabs-mode nil))

;;;###autoload
(add-to-list 'auto-mode-alist '("\\(?:\\`\\|/\\|\\.\\)stead\\.kdl\\'" . stead-mode))

(with-eval-after-load 'eglot
  (add-to-list 'eglot-server-programs
               `(stead-mode . ,(lambda (&rest _) (append stead-program '("lsp"))))))

(defun stead-words (command &rest arguments)
  "The words of COMMAND with ARGUMENTS."
  (append (unless (equal command "why") stead-root) stead-program (list command) arguments))

(defun stead--run (command &rest arguments)
  (let ((default-directory (or (locate-dominating-file default-directory "stead.kdl") default-directory)))
    (compile (mapconcat #'shell-quote-argument (apply #'stead-words command arguments) " ") t)))

;;;###autoload
(defun stead-up () "Make this machine as the project says." (interactive) (stead--run "up"))

;;;###autoload
(defun stead-down () "End the project." (interactive) (stead--run "down"))

;;;###autoload
(defun stead-logs (name) "Follow the lines of NAME." (interactive "sContainer: ") (stead--run "logs" "--follow" name))

;;;###autoload
(defun stead-why (name) "Explain why `up' would change NAME." (interactive "sName: ") (stead--run "why" name))

(provide 'stead)
;;; stead.el ends here
