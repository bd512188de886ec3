"""The notification controller: routes a NotificationRequest after Alertmanager's rules and delivers it, each attempt on record."""
