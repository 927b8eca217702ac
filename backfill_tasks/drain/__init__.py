"""The drain: workers call the host's own runner more often than its cron does, while our jobs are due."""
