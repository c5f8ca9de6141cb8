-- The reference's schema after all migrations, as far as it is documented, with what Liquibase makes of
-- the types on MySQL.
CREATE TABLE certificate (id BIGINT AUTO_INCREMENT PRIMARY KEY, created_at DATETIME(2) NOT NULL,
  thumbprint VARCHAR(64) NOT NULL UNIQUE, country VARCHAR(2) NOT NULL, type VARCHAR(14) NOT NULL,
  revoked BIT(1) NULL, host VARCHAR(256) NULL, signature VARCHAR(690) NULL,
  raw_data VARCHAR(10240) NULL);
CREATE TABLE callback_subscription (id BIGINT AUTO_INCREMENT PRIMARY KEY,
  created_at DATETIME(2) NOT NULL, callback_id VARCHAR(32), url VARCHAR(256), country VARCHAR(2));
CREATE TABLE callback_task (id BIGINT AUTO_INCREMENT PRIMARY KEY,
  created_at DATETIME(2) NOT NULL, execution_lock DATETIME(2) NULL, last_try DATETIME(2) NULL,
  retries INT NOT NULL, not_before_id BIGINT NULL, batch_id BIGINT NOT NULL,
  subscription_id BIGINT NOT NULL);
CREATE TABLE diagnosiskeybatch (id BIGINT AUTO_INCREMENT PRIMARY KEY,
  created_at DATETIME(2) NOT NULL, batchname VARCHAR(64), batchlink VARCHAR(64),
  number_of_keys INT NULL);
CREATE TABLE diagnosiskey (id BIGINT AUTO_INCREMENT PRIMARY KEY, created_at DATETIME(2) NOT NULL,
  batch_tag VARCHAR(64) NULL, payload_hash VARCHAR(64) NOT NULL UNIQUE,
  payload_key_data VARCHAR(255), payload_rolling_start_interval_number VARCHAR(255),
  payload_rolling_period VARCHAR(255), payload_transmission_risk_level VARCHAR(255),
  payload_report_type VARCHAR(255), payload_days_since_onset_of_symptoms VARCHAR(255),
  payload_visited_countries VARCHAR(400), payload_origin VARCHAR(64),
  format_format VARCHAR(64) NULL, format_major_version INT, format_minor_version INT,
  uploader_information_batch_tag VARCHAR(64), uploader_information_batch_signature VARCHAR(8000),
  uploader_information_thumbprint VARCHAR(64),
  uploader_information_signing_cert_thumbprint VARCHAR(64),
  uploader_information_country VARCHAR(2),
  INDEX (batch_tag), INDEX (uploader_information_batch_tag), INDEX (created_at))
